"""Runs, pods and the API server go wrong at random; in the end each run has ended, and well."""

import asyncio
import contextlib
import os
import random
from collections import Counter
from pathlib import Path

from interaction.test_kubernetes_placement import SETTINGS, Place, hasty, maker, placing
from treadle.control.events import Bells
from treadle.kit.clock import SystemClock
from treadle.kit.tasks import TaskScope
from treadle.testing.fake_kubernetes import Disturbance

__all__ = ["hasty"]

SEED = int(os.environ.get("TREADLE_TEST_SEED", "1"))
RUNS = 10
STORM_SECONDS = 3.0
CALM_SECONDS = 25.0
TROUBLES = (
    Disturbance(status=429, retry_after=0.05),
    Disturbance(status=500),
    Disturbance(status=503),
    Disturbance(do_it=True),
    Disturbance(stall=0.2),
)


class Storm:
    """Plays runners and misfortune."""

    def __init__(self, place: Place, dice: random.Random) -> None:
        self.place = place
        self.dice = dice
        self.is_calm = False
        self.claimed: Counter[str] = Counter()
        self._seen: set[str] = set()

    async def play_runners(self) -> None:
        """Each pod that runs claims its run, at some time, and does something with it."""
        scope = TaskScope("storm runners")
        cluster = self.place.cluster
        try:
            while True:
                for name, pod in list(cluster.objects["pods"].items()):
                    if name not in self._seen and pod["status"]["phase"] == "Running":
                        self._seen.add(name)
                        labels = pod["metadata"]["labels"]
                        scope.start(self._runner(name, labels["treadle.dev/run-id"]), name)
                await asyncio.sleep(0.03)
        finally:
            await scope.close()

    async def _runner(self, pod: str, run_id: str) -> None:
        lab, job = self.place.lab, pod.rsplit("-", 1)[0]
        await asyncio.sleep(self.dice.random() * 0.3)
        await lab.post("/api/v1/runners/register", {"id": pod, "attemptId": job})
        body = {"runnerId": pod, "leaseMs": 60_000}
        answer = await lab.http.post(f"/api/v1/runs/{run_id}/claim", json=body)
        if answer.is_success:
            self.claimed[run_id] += 1
            claim = answer.json()
            if self.is_calm or self.dice.random() < 0.3:
                event = {"type": "backend_status", "payload": {"phase": "run-terminal"}}
                event["payload"]["terminalStatus"] = "completed"
                await lab.append(claim, 1, event)
            elif self.dice.random() < 0.3:
                headers = {"Authorization": f"Bearer {claim['token']}"}
                path, body = f"/api/v1/runs/{run_id}/release", {"epoch": claim["epoch"]}
                await lab.http.post(path, json=body, headers=headers)
            else:
                await asyncio.sleep(self.dice.random())
        await self._end(pod)

    async def _end(self, pod: str) -> None:
        with contextlib.suppress(KeyError):
            how = self.dice.choice(["evict", "memory", "exit"])
            if how == "evict":
                await self.place.kubelet.evict(pod)
            elif how == "memory":
                await self.place.kubelet.kill_for_memory(pod)
            else:
                job = self.place.cluster.objects["jobs"].get(pod.rsplit("-", 1)[0])
                if job is not None:
                    await self.place.cluster.remove("jobs", job["metadata"]["name"])

    async def rage(self) -> None:
        """Trouble, until it is calm."""
        kubernetes, dice = self.place.kubernetes, self.dice
        ends = asyncio.get_running_loop().time() + STORM_SECONDS
        while asyncio.get_running_loop().time() < ends:
            what = dice.random()
            if what < 0.4:
                call = dice.choice(["POST jobs", "DELETE jobs", "GET jobs", "WATCH pods"])
                kubernetes.disturb(
                    call, dice.choice(TROUBLES[:-2] if "WATCH" in call else TROUBLES)
                )
            elif what < 0.6:
                kubernetes.break_watches()
            elif what < 0.7:
                await self.place.cluster.compact()
            elif what < 0.8 and self.place.jobs():
                await self.place.cluster.remove("jobs", dice.choice(self.place.jobs()))
            else:
                self.place.kubelet.fates.append(dice.choice(["exit:1", "hang", "exit:7"]))
            await asyncio.sleep(dice.random() * 0.1)
        self.is_calm = True
        self.place.kubelet.fates.clear()


async def test_after_a_storm_each_run_has_ended_once(tmp_path: Path) -> None:
    async with placing(tmp_path) as place:
        storm = Storm(place, random.Random(SEED))
        scope, bells = TaskScope("storm"), Bells()
        second = maker(place.kubernetes, SETTINGS)
        repository = place.lab.manager.repository
        scope.start(second(repository, bells, SystemClock()).run(), "second manager")
        scope.start(storm.play_runners(), "runners")
        try:
            raging = scope.start(storm.rage(), "rage")
            runs: list[str] = []
            for _ in range(RUNS):
                more = {"placement": "kubernetes-job", "maxAttempts": 1000}
                runs.append((await place.lab.run_with_turn(**more))[0])
                await asyncio.sleep(0.1)
            await raging
            async with asyncio.timeout(CALM_SECONDS):
                for run_id in runs:
                    await place.until(run_id, "run-terminal")
            await place.cluster.until(lambda: not active(place), CALM_SECONDS)
            for run_id in runs:
                run = await place.state(run_id)
                assert (run["status"], run["claimedBy"] is not None) == ("completed", True)
                assert storm.claimed[run_id] >= 1
                await place.verify(run_id)
        finally:
            bells.close()
            await scope.close()


def active(place: Place) -> list[str]:
    """Jobs that are not finished."""
    jobs = place.cluster.objects["jobs"].items()
    return [name for name, job in jobs if not job["status"].get("conditions")]
