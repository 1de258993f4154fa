"""What a pretended cluster does with Jobs: makes their pods, runs them or lets them fail.

    kubelet = Kubelet(cluster, folder, env)
    kubelet.fates.append("unschedulable")   # what becomes of the next pod; "run" else
    async with kubelet: ...

`run` really starts the pod's command as a process of this machine: mounted volumes are folders
below `folder`, and paths in arguments and variables lead there. Job controller and node in one;
knows no HTTP.
"""

import asyncio
import contextlib
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from treadle.kit.processes import ChildProcess, spawn
from treadle.kit.tasks import TaskScope
from treadle.testing.fake_cluster import FakeCluster, Object, now

GRACE_SECONDS = 20.0
LOG_LINES = 200
JOB_LABEL = "batch.kubernetes.io/job-name"
WAITING: dict[str, tuple[str, str]] = {
    "image": ("ErrImagePull", "failed to resolve the image"),
    "config": ("CreateContainerConfigError", 'secret "login" not found'),
    "never": ("ContainerCreating", ""),
}


class Kubelet:
    """Looks after all pods of a cluster; use as an async context manager."""

    def __init__(
        self,
        cluster: FakeCluster,
        folder: Path,
        env: Mapping[str, str],
        *,
        real_folders: Sequence[str] = (),
    ) -> None:
        """Start nothing yet.

        Args:
            cluster: whose Jobs to carry out.
            folder: where pods have their volumes.
            env: what their processes get on top of the pods' own variables.
            real_folders: mount points at or below these are folders of this machine as they are.
        """
        self.cluster = cluster
        self.fates: deque[str] = deque()
        """For the pods to come: run, hang, image, config, never, unschedulable, exit:CODE."""
        self.fates_of: dict[str, str] = {}
        """The same for all pods of a Job, by its name."""
        self.usual_fate = "run"
        self.aliases: dict[str, str] = {}
        """Arguments that are to read otherwise, such as the address of a service."""
        self.logs: dict[str, deque[str]] = {}
        self._folder = folder
        self._env = env
        self._real = tuple(real_folders)
        self._scope = TaskScope("fake-kubelet")
        self._processes: dict[str, ChildProcess] = {}
        self._ending: set[str] = set()
        self._count = 0

    async def __aenter__(self) -> "Kubelet":
        """Begin to look after pods."""
        self._scope.start(self._work(), "work")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all processes."""
        for process in list(self._processes.values()):
            await process.stop(0.2)
        await self._scope.close()

    def pods_of(self, job_name: str) -> list[str]:
        """Names of a Job's pods that are there, in the order in which they were made."""
        pods = self.cluster.objects["pods"].values()
        own = [pod for pod in pods if pod["metadata"]["labels"].get(JOB_LABEL) == job_name]
        return [pod["metadata"]["name"] for pod in own]

    async def evict(self, pod: str) -> None:
        """The node is short of something: kills the pod and says why."""
        message = "The node was low on resource: memory."
        await self._fail(pod, {"reason": "Evicted", "message": message}, disrupted=True)

    async def kill_for_memory(self, pod: str) -> None:
        """The container exceeds its limit."""
        await self._fail(pod, {}, terminated={"exitCode": 137, "reason": "OOMKilled"})

    async def lose(self, pod: str) -> None:
        """Nothing is heard of the pod's node any more; what runs there goes on."""
        await self._set(pod, phase="Unknown", reason="NodeLost")

    async def exceed_deadline(self, job_name: str) -> None:
        """The Job's time is over: its pods are ended, and it has failed."""
        job = self.cluster.objects["jobs"][job_name]
        await self._end_job(job, "Failed", "DeadlineExceeded")

    async def set_secret(self, name: str, content: dict[str, bytes]) -> None:
        """Make or change a Secret; pods that wait for it start."""
        self.cluster.secrets[name] = content
        async with self.cluster.changed:
            self.cluster.changed.notify_all()

    async def resume(self, job_name: str) -> None:
        """What Kueue does when it admits a Job."""
        job = self.cluster.objects["jobs"][job_name]
        job["spec"]["suspend"] = False
        await self.cluster.put("jobs", job)

    async def _work(self) -> None:
        while True:
            version = self.cluster.version
            await self._look()
            async with self.cluster.changed:
                await self.cluster.changed.wait_for(lambda v=version: self.cluster.version > v)

    async def _look(self) -> None:
        jobs, pods = self.cluster.objects["jobs"], self.cluster.objects["pods"]
        for name, job in list(jobs.items()):
            spec = job["spec"]
            if spec.get("suspend") or _is_finished(job) or "deletionTimestamp" in job["metadata"]:
                continue
            own = [pods[pod] for pod in self.pods_of(name)]
            if all(_was_disrupted(pod) for pod in own):
                await self._make_pod(job)
        for name, pod in list(pods.items()):
            job = jobs.get(pod["metadata"]["labels"].get(JOB_LABEL))
            owner = pod["metadata"]["ownerReferences"][0]["uid"]
            over = _is_finished(job) and not _is_over(pod) if job else False
            if (job is None or job["metadata"]["uid"] != owner or over) and (
                name not in self._ending
            ):
                self._ending.add(name)
                self._scope.start(self._end_pod(name), f"end {name}")

    async def _make_pod(self, job: Object) -> None:
        self._count += 1
        template = job["spec"]["template"]
        name = f"{job['metadata']['name']}-{self._count:05d}"
        labels = {**template["metadata"]["labels"], JOB_LABEL: job["metadata"]["name"]}
        owner = {"kind": "Job", "uid": job["metadata"]["uid"]}
        meta = {"name": name, "labels": labels, "ownerReferences": [owner]}
        if "startTime" not in job["status"]:
            job["status"]["startTime"] = now()
            await self.cluster.put("jobs", job)
        status = {"phase": "Pending"}
        pod = {"metadata": meta, "spec": template["spec"], "status": status}
        await self.cluster.create("pods", pod)
        fate = self._fate_of(job["metadata"]["name"])
        self._scope.start(self._live(name, fate), f"live {name}")

    def _fate_of(self, job_name: str) -> str:
        if job_name in self.fates_of:
            return self.fates_of[job_name]
        return self.fates.popleft() if self.fates else self.usual_fate

    async def _live(self, pod: str, fate: str) -> None:
        if fate in WAITING:
            reason, message = WAITING[fate]
            await self._wait_in(pod, reason, message)
        elif fate == "unschedulable":
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            message = "0/3 nodes are available: 3 Insufficient cpu."
            await self._set(pod, conditions=[{**condition, "message": message}])
        elif fate == "hang":
            await self._set(pod, phase="Running", startTime=now())
        elif fate.startswith("exit:"):
            await self._ended(pod, int(fate.removeprefix("exit:")))
        else:
            await self._run(pod)

    async def _run(self, pod: str) -> None:
        spec = self.cluster.objects["pods"][pod]["spec"]
        await self._wait_in(pod, "ContainerCreating", "")
        while (missing := self._missing(spec)) is not None:
            await self._say(pod, "FailedMount", missing)
            async with self.cluster.changed:
                await self.cluster.changed.wait_for(lambda: self._missing(spec) != missing)
            if pod not in self.cluster.objects["pods"]:
                return
        places = self._mount(pod, spec)
        container = spec["containers"][0]
        env = {"POD_NAME": pod}
        for each in container["env"]:
            if "value" in each:
                env[each["name"]] = places(each["value"])
        args = [re.sub(r"\$\((\w+)\)", lambda m: env[m[1]], text) for text in container["args"]]
        # The image is this machine, so its programs lie where they lie, be it below a mount.
        argv = [*container["command"], *map(places, args)]
        process = await spawn(argv, env={**self._env, **env}, cwd=self._folder)
        self._processes[pod] = process
        self.logs[pod] = deque(maxlen=LOG_LINES)
        for stream in (process.stdout, process.stderr):
            self._scope.start(self._log(pod, stream), f"log {pod}")
        await self._set(pod, phase="Running", startTime=now(), containerStatuses=[])
        code = await process.wait()
        self._processes.pop(pod, None)
        await self._ended(pod, 128 - code if code < 0 else code)

    async def _log(self, pod: str, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.logs[pod].append(line.decode(errors="replace").rstrip())

    def _missing(self, spec: Object) -> str | None:
        """What a Secret volume lacks."""
        for volume in spec["volumes"]:
            wanted = volume.get("secret")
            if wanted is None:
                continue
            held = self.cluster.secrets.get(wanted["secretName"])
            if held is None:
                return f'secret "{wanted["secretName"]}" not found'
            for item in wanted.get("items", []):
                if item["key"] not in held:
                    return f"references non-existent secret key: {item['key']}"
        return None

    def _mount(self, pod: str, spec: Object) -> Callable[[str], str]:
        """Make the folders of all volumes; how a text with a place in it reads here."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        places: dict[str, str] = {}
        for mount in spec["containers"][0]["volumeMounts"]:
            at = mount["mountPath"]
            real = any(f"{at}/".startswith(f"{root}/") for root in self._real)
            here = Path(at) if real else self._folder / pod / at.lstrip("/")
            volume = volumes[mount["name"]]
            claim = volume.get("persistentVolumeClaim")
            if claim is not None and not real:
                here = self._folder / claim["claimName"] / mount.get("subPath", "")
            here.mkdir(parents=True, exist_ok=True)
            places[at] = str(here)
            if "secret" in volume:
                self._fill(here, volume["secret"])

        def translate(text: str) -> str:
            if text in self.aliases:
                return self.aliases[text]
            for at in sorted(places, key=len, reverse=True):
                if text == at or text.startswith(f"{at}/"):
                    return places[at] + text[len(at) :]
            return text

        return translate

    def _fill(self, folder: Path, secret: Object) -> None:
        held = self.cluster.secrets[secret["secretName"]]
        items: list[Object] = secret.get("items") or [{"key": k, "path": k} for k in held]
        for item in items:
            file = folder / item["path"]
            file.write_bytes(held[item["key"]])
            file.chmod(secret["defaultMode"])

    async def _wait_in(self, pod: str, reason: str, message: str) -> None:
        waiting = {"waiting": {"reason": reason, "message": message}}
        await self._set(pod, containerStatuses=[{"name": "runner", "state": waiting}])

    async def _say(self, pod: str, reason: str, message: str) -> None:
        body = {
            "metadata": {"name": f"{pod}.{self.cluster.version}"},
            "involvedObject": {"kind": "Pod", "name": pod},
            "reason": reason,
            "message": message,
        }
        await self.cluster.create("events", body)

    async def _fail(
        self,
        pod: str,
        status: Object,
        *,
        terminated: Object | None = None,
        disrupted: bool = False,
    ) -> None:
        process = self._processes.pop(pod, None)
        self._ending.add(pod)
        if process is not None:
            process.signal_group(signal.SIGKILL)
        ended = {"state": {"terminated": terminated or {"exitCode": 137, "reason": "Error"}}}
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
        conditions = {"conditions": [condition]} if disrupted else {}
        await self._set(pod, phase="Failed", containerStatuses=[ended], **status, **conditions)
        job = self._job_of(pod)
        if job is not None and not disrupted:
            await self._end_job(job, "Failed", "BackoffLimitExceeded")

    async def _ended(self, pod: str, code: int) -> None:
        """The process of a pod ended by itself, or because it was told to."""
        if pod not in self.cluster.objects["pods"] or _is_over(self.cluster.objects["pods"][pod]):
            return
        reason = "Completed" if code == 0 else "Error"
        ended = {"state": {"terminated": {"exitCode": code, "reason": reason}}}
        phase = "Succeeded" if code == 0 else "Failed"
        await self._set(pod, phase=phase, containerStatuses=[ended])
        job = self._job_of(pod)
        if job is not None and not _is_finished(job):
            kind = "Complete" if code == 0 else "Failed"
            await self._end_job(job, kind, "" if code == 0 else "BackoffLimitExceeded")

    async def _end_job(self, job: Object, kind: str, reason: str) -> None:
        job["status"]["conditions"] = [{"type": kind, "status": "True", "reason": reason}]
        await self.cluster.put("jobs", job)

    async def _end_pod(self, pod: str) -> None:
        """Tell the process to end, and take the pod away once it has."""
        process = self._processes.get(pod)
        if process is not None:
            process.signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await process.exited()
            process.signal_group(signal.SIGKILL)
        await self.cluster.remove("pods", pod)

    async def _set(self, pod: str, **status: Any) -> None:
        found = self.cluster.objects["pods"].get(pod)
        if found is not None:
            found["status"] |= status
            await self.cluster.put("pods", found)

    def _job_of(self, pod: str) -> Object | None:
        labels: Object = self.cluster.objects["pods"][pod]["metadata"]["labels"]
        return self.cluster.objects["jobs"].get(labels[JOB_LABEL])


def _is_finished(job: Object | None) -> bool:
    conditions: list[Object] = (job or {}).get("status", {}).get("conditions") or []
    return any(each["type"] in {"Complete", "Failed"} for each in conditions)


def _is_over(pod: Object) -> bool:
    return pod["status"]["phase"] in {"Succeeded", "Failed"}


def _was_disrupted(pod: Object) -> bool:
    conditions: list[Object] = pod["status"].get("conditions") or []
    return _is_over(pod) and any(each["type"] == "DisruptionTarget" for each in conditions)


def python_module(module: str) -> list[str]:
    """A command that starts a Python module of this machine."""
    return [sys.executable, "-m", module]
