"""Jobs follow the runs, whatever the cluster and the API server do meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.control_lab import ControlLab, control_lab
from treadle.control.db.repository import Repository
from treadle.control.events import Bells
from treadle.control.placement.kubernetes import client as client_module
from treadle.control.placement.kubernetes import mirror as mirror_module
from treadle.control.placement.kubernetes import plan as plan_module
from treadle.control.placement.kubernetes import reconciler as reconciler_module
from treadle.control.placement.kubernetes.client import ApiAccess, KubernetesClient
from treadle.control.placement.kubernetes.reconciler import KubernetesPlacer
from treadle.control.placement.kubernetes.settings import KubernetesSettings
from treadle.kit.clock import Clock, SystemClock
from treadle.kit.tasks import TaskScope
from treadle.testing.fake_kubelet import Kubelet
from treadle.testing.fake_kubernetes import Disturbance, FakeKubernetes

SETTINGS = KubernetesSettings(
    namespace="agents",
    image="registry.test/treadle:1",
    manager_url="http://manager.test:7717",
    token_secret="runner-token",
    credentials={"codex": "codex-login"},
)
STUCK_SECONDS = 2
"""Times of the cluster have whole seconds."""
WAIT_SECONDS = 15.0


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that are short, so that tests are."""
    for module, name, value in (
        (plan_module, "LONGEST_PAUSE_SECONDS", 0.1),
        (reconciler_module, "RESYNC_SECONDS", 0.5),
        (reconciler_module, "AGAIN_SECONDS", 0.1),
        (reconciler_module, "LINGER_SECONDS", 0.3),
        (mirror_module, "LONGEST_PAUSE_SECONDS", 0.3),
        (client_module, "LONGEST_PAUSE_SECONDS", 0.2),
    ):
        monkeypatch.setattr(module, name, value)


class Place:
    """A manager with a placer, and the cluster that it places into."""

    def __init__(self, lab: ControlLab, kubernetes: FakeKubernetes, kubelet: Kubelet) -> None:
        self.lab = lab
        self.kubernetes = kubernetes
        self.cluster = kubernetes.cluster
        self.kubelet = kubelet

    async def run(self, fate: str = "hang", **more: Any) -> str:
        """A run with a turn, whose first pod has this fate."""
        body = {"placement": "kubernetes-job", **more}
        run_id = (await self.lab.post("/api/v1/runs", body))["id"]
        self.kubelet.fates_of[f"treadle-{run_id}-1"] = fate
        turn = {"type": "turn", "payload": {"prompt": "hello"}}
        await self.lab.post(f"/api/v1/runs/{run_id}/commands", turn)
        return run_id

    async def pod(self, job: str, nth: int = 0) -> str:
        """The name of a Job's pod, once it is there."""
        await self.cluster.until(lambda: len(self.kubelet.pods_of(job)) > nth, WAIT_SECONDS)
        return self.kubelet.pods_of(job)[nth]

    async def claimed(self, run_id: str, epoch: int = 1) -> tuple[str, Any]:
        """The pod of an attempt, and the claim that its runner has made."""
        job = f"treadle-{run_id}-{epoch}"
        pod = await self.pod(job)
        await self.lab.post("/api/v1/runners/register", {"id": pod, "attemptId": job})
        body = {"runnerId": pod, "leaseMs": 60_000}
        return pod, await self.lab.post(f"/api/v1/runs/{run_id}/claim", body)

    async def until(self, run_id: str, phase: str, count: int = 1) -> dict[str, Any]:
        """The payload of the `count`-th event of a phase."""
        after, seen = 0, 0
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                path = f"/api/v1/runs/{run_id}/events?afterSeq={after}&limit=1000&waitMs=5000"
                for event in (await self.lab.get(path))["items"]:
                    after = event["seq"]
                    seen += event["payload"].get("phase") == phase
                    if seen == count and event["payload"].get("phase") == phase:
                        return event["payload"]

    async def state(self, run_id: str) -> dict[str, Any]:
        return await self.lab.get(f"/api/v1/runs/{run_id}")

    async def verify(self, run_id: str) -> None:
        assert await self.lab.manager.repository.verify_run(run_id) == []

    def jobs(self) -> list[str]:
        return self.cluster.names("jobs")

    async def jobs_are(self, *names: str) -> None:
        await self.cluster.until(lambda: self.jobs() == sorted(names), WAIT_SECONDS)


@asynccontextmanager
async def placing(tmp_path: Path, **changes: Any) -> AsyncIterator[Place]:
    settings = msgspec.structs.replace(SETTINGS, **changes)
    async with FakeKubernetes() as kubernetes:
        kubernetes.bookmark_seconds = 0.2
        async with Kubelet(kubernetes.cluster, tmp_path, {}) as kubelet:
            kubelet.usual_fate = "hang"
            make = maker(kubernetes, settings)
            async with control_lab(tmp_path / "data", placers=[make]) as lab:
                yield Place(lab, kubernetes, kubelet)


def maker(kubernetes: FakeKubernetes, settings: KubernetesSettings) -> Any:
    def make(repository: Repository, bells: Bells, clock: Clock) -> KubernetesPlacer:
        client = KubernetesClient(ApiAccess(kubernetes.url), "agents", watch_seconds=1)
        return KubernetesPlacer(client, settings, repository, bells, clock)

    return make


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with placing(tmp_path) as place:
        yield place


@pytest.fixture
async def short(tmp_path: Path) -> AsyncIterator[Place]:
    """Where pods have little time to start."""
    async with placing(tmp_path, start_seconds=STUCK_SECONDS) as place:
        yield place


async def settled(place: Place, seconds: float = 0.8) -> None:
    """Give passes time to do what they should not; what they should do is waited for."""
    await asyncio.sleep(seconds)


async def test_a_run_gets_one_job_and_no_other_runner_takes_it(place: Place) -> None:
    run_id = await place.run()
    await place.jobs_are(f"treadle-{run_id}-1")
    await place.lab.post("/api/v1/runners/register", {"id": "pool"})
    assert (await place.lab.post("/api/v1/claims", {"runnerId": "pool"}))["items"] == []
    ordinary, _ = await place.lab.run_with_turn()
    items = (await place.lab.post("/api/v1/claims", {"runnerId": "pool", "max": 5}))["items"]
    assert [each["runId"] for each in items] == [ordinary]
    pod, _ = await place.claimed(run_id)
    await settled(place)
    assert (await place.state(run_id))["claimedBy"] == pod
    assert place.cluster.history == [("create", f"treadle-{run_id}-1")]
    assert place.kubernetes.calls["POST jobs"] == 1


# K1: what the API server does


async def test_a_troubled_api_server_gets_each_job_once(place: Place) -> None:
    for trouble in (
        Disturbance(status=429, retry_after=0.1),
        Disturbance(status=500),
        Disturbance(do_it=True),
        Disturbance(stall=0.3),
    ):
        place.kubernetes.disturb("POST jobs", trouble)
    runs = [await place.run() for _ in range(4)]
    await place.jobs_are(*(f"treadle-{run_id}-1" for run_id in runs))
    await settled(place)
    assert len(place.cluster.history) == 4


async def test_a_stalled_call_holds_up_no_other_run(place: Place) -> None:
    place.kubernetes.disturb("POST jobs", Disturbance(stall=30))
    await place.run()
    async with asyncio.timeout(WAIT_SECONDS):
        while not place.kubernetes.calls["POST jobs"]:
            await asyncio.sleep(0.02)
    second = await place.run()
    await place.cluster.until(lambda: f"treadle-{second}-1" in place.jobs(), WAIT_SECONDS)


async def test_a_lost_watch_is_no_death_and_what_changed_is_found(place: Place) -> None:
    run_id = await place.run()
    pod, _ = await place.claimed(run_id)
    place.kubernetes.watches_are_shut = True
    place.kubernetes.break_watches()
    await place.cluster.compact()
    await settled(place)
    assert (await place.state(run_id))["claimedBy"] == pod
    await place.kubelet.evict(pod)
    place.kubernetes.watches_are_shut = False
    lost = await place.until(run_id, "run-lease-expired")
    assert "evicted" in lost["failureMessage"]


# K2: what becomes of pods and Jobs


async def test_a_pod_that_is_evicted_shortens_the_lease(place: Place) -> None:
    run_id = await place.run()
    pod, _ = await place.claimed(run_id)
    await place.kubelet.evict(pod)
    lost = await place.until(run_id, "run-lease-expired")
    assert lost["failureKind"] == "runner-crashed"
    assert lost["failureMessage"] == (
        "The runner is gone: its pod was evicted: The node was low on resource: memory."
    )
    await place.jobs_are(f"treadle-{run_id}-2")
    _, claim = await place.claimed(run_id, 2)
    assert (claim["epoch"], claim["reason"]) == (2, "gone")
    await place.verify(run_id)


async def test_memory_is_named(place: Place) -> None:
    run_id = await place.run()
    pod, _ = await place.claimed(run_id)
    await place.kubelet.kill_for_memory(pod)
    assert "OOMKilled" in (await place.until(run_id, "run-lease-expired"))["failureMessage"]


async def test_a_lost_node_is_left_to_the_lease(place: Place) -> None:
    run_id = await place.run()
    pod, _ = await place.claimed(run_id)
    await place.kubelet.lose(pod)
    await settled(place)
    assert (await place.state(run_id))["claimedBy"] == pod
    assert place.jobs() == [f"treadle-{run_id}-1"]


async def test_an_evicted_pod_that_claimed_nothing_costs_no_attempt(place: Place) -> None:
    run_id = await place.run()
    first = await place.pod(f"treadle-{run_id}-1")
    await place.kubelet.evict(first)
    second = await place.pod(f"treadle-{run_id}-1", 1)
    assert second != first
    await settled(place, 0.4)
    assert (await place.state(run_id))["epoch"] == 0


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("image", "its image cannot be had (ErrImagePull)"),
        ("unschedulable", "no node takes its pod (Unschedulable): 0/3 nodes are available"),
        ("exit:9", "its pod ended with exit code 9"),
        ("never", "its pod did not start in the time it had"),
    ],
)
async def test_a_runner_that_never_comes_costs_an_attempt(
    short: Place, fate: str, said: str
) -> None:
    place = short
    run_id = await place.run(fate)
    failed = await place.until(run_id, "run-placement-failed")
    assert failed["epoch"] == 1
    assert said in failed["failureMessage"]
    _, claim = await place.claimed(run_id, 2)
    assert claim["epoch"] == 2
    assert (await place.state(run_id))["attempt"] == 2
    await place.verify(run_id)


async def test_attempts_are_bounded(place: Place) -> None:
    place.kubelet.usual_fate = "exit:9"
    run_id = await place.run("exit:9", maxAttempts=2)
    await place.until(run_id, "run-placement-failed", 2)
    run = await place.state(run_id)
    assert (run["status"], run["failureKind"], run["attempt"]) == ("failed", "runner-crashed", 2)
    assert "2 attempts were lost in turn" in run["failureMessage"]
    await settled(place)
    assert [name for verb, name in place.cluster.history if verb == "create"] == [
        f"treadle-{run_id}-1",
        f"treadle-{run_id}-2",
    ]
    await place.verify(run_id)


async def test_a_job_that_is_deleted_by_hand_comes_again(place: Place) -> None:
    run_id = await place.run()
    job = f"treadle-{run_id}-1"
    await place.pod(job)
    await place.cluster.delete("jobs", job, None)
    await place.cluster.until(lambda: place.cluster.history.count(("create", job)) == 2)
    await place.claimed(run_id)
    # Deleted under a runner that holds the run: another comes once its pod is known to be gone.
    await place.cluster.delete("jobs", job, None)
    lost = await place.until(run_id, "run-lease-expired")
    assert "its pod is gone" in lost["failureMessage"]
    await place.jobs_are(f"treadle-{run_id}-2")


async def test_a_pod_that_nobody_saw_is_looked_for(place: Place) -> None:
    run_id = await place.run()
    job = f"treadle-{run_id}-1"
    await place.pod(job)
    unseen = f"{job}-zzzzz"  # made, at work and deleted while the watch was away
    await place.lab.post("/api/v1/runners/register", {"id": unseen, "attemptId": job})
    body = {"runnerId": unseen, "leaseMs": 60_000}
    await place.lab.post(f"/api/v1/runs/{run_id}/claim", body)
    lost = await place.until(run_id, "run-lease-expired")
    assert lost["failureMessage"] == "The runner is gone: its pod is gone."
    await place.jobs_are(f"treadle-{run_id}-2")


async def test_a_job_that_does_not_go_away_is_passed_by(short: Place) -> None:
    place = short
    run_id = await place.run("never")
    job = f"treadle-{run_id}-1"
    await place.pod(job)
    stuck = place.cluster.objects["jobs"][job]
    stuck["metadata"]["finalizers"] = ["example.test/stuck"]
    await place.cluster.delete("jobs", job, None)
    failed = await place.until(run_id, "run-placement-failed")
    assert "does not go away" in failed["failureMessage"]
    await place.jobs_are(job, f"treadle-{run_id}-2")


async def test_the_time_of_an_attempt_ends_the_run(place: Place) -> None:
    run_id = await place.run()
    _, claim = await place.claimed(run_id)
    await place.kubelet.exceed_deadline(f"treadle-{run_id}-1")
    # The runner was told to end and gives its run back, or its pod is seen to be gone: either way
    # there is no further attempt.
    body = {"epoch": claim["epoch"], "reason": "stopped"}
    headers = {"Authorization": f"Bearer {claim['token']}"}
    await place.lab.http.post(f"/api/v1/runs/{run_id}/release", json=body, headers=headers)
    await place.until(run_id, "run-terminal")
    run = await place.state(run_id)
    assert (run["status"], run["failureKind"]) == ("failed", "deadline-exceeded")
    await settled(place)
    assert [verb for verb, _ in place.cluster.history].count("create") == 1
    await place.verify(run_id)


# K3: Secrets


@pytest.mark.parametrize("missing", ["secret", "key"])
async def test_a_missing_secret_blocks_the_run(short: Place, missing: str) -> None:
    place = short
    await place.kubelet.set_secret("runner-token", {"token": b"t"})
    if missing == "key":
        await place.kubelet.set_secret("codex-login", {"config.toml": b""})
    ref = {"name": "codex-login", "keys": ["auth.json"]}
    credentials = [{"profile": "codex", "secretRef": ref}]
    policy = {"secretScope": {"providerCredentials": credentials}}
    run_id = await place.run("run", executionPolicy=policy)
    ended = await place.until(run_id, "run-terminal")
    assert (ended["terminalStatus"], ended["failureKind"]) == ("blocked", "secret-unavailable")
    named = "codex-login" if missing == "secret" else "auth.json"
    assert named in ended["failureMessage"]
    await place.jobs_are()
    await place.verify(run_id)


async def test_another_secret_than_the_operators_is_refused(place: Place) -> None:
    credentials = [{"profile": "codex", "secretRef": {"name": "runner-token"}}]
    policy = {"secretScope": {"providerCredentials": credentials}}
    body = {"placement": "kubernetes-job", "executionPolicy": policy}
    answer = await place.lab.http.post("/api/v1/runs", json=body)
    assert (answer.status_code, "does not give the Secret" in answer.text) == (400, True)


async def test_a_manager_without_a_cluster_takes_no_such_run(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        answer = await lab.http.post("/api/v1/runs", json={"placement": "kubernetes-job"})
        assert answer.status_code == 400
        assert "places no runners as kubernetes-job" in answer.text
        body = {"placement": "somewhere"}
        assert (await lab.http.post("/api/v1/runs", json=body)).status_code == 400


# K5, K6: orphans, ends, several managers


async def test_what_no_run_wants_is_removed_and_what_is_not_ours_stays(place: Place) -> None:
    labels = {"treadle.dev/instance": "treadle", "treadle.dev/run-id": "gone"}
    spec = {"suspend": True}
    orphan = {"metadata": {"name": "orphan", "labels": labels}, "spec": spec}
    other = {"metadata": {"name": "other", "labels": {"treadle.dev/instance": "b"}}, "spec": spec}
    await place.cluster.create("jobs", orphan)
    await place.cluster.create("jobs", other)
    await place.jobs_are("other")


async def test_a_cancelled_run_loses_a_job_that_did_not_start(place: Place) -> None:
    run_id = await place.run("never")
    await place.pod(f"treadle-{run_id}-1")
    await place.lab.post(f"/api/v1/runs/{run_id}/commands", {"type": "cancel"})
    assert (await place.state(run_id))["status"] == "cancelled"
    await place.jobs_are()


async def test_a_runner_whose_run_is_over_may_end_by_itself(place: Place) -> None:
    reconciler_module.LINGER_SECONDS = 2.0
    run_id = await place.run()
    pod, claim = await place.claimed(run_id)
    event = {"type": "backend_status", "payload": {"phase": "run-terminal"}}
    event["payload"]["terminalStatus"] = "completed"
    assert (await place.lab.append(claim, 1, event)).is_success
    await settled(place, 1.2)
    assert (place.jobs(), place.kubelet.pods_of(place.jobs()[0])) == (
        [f"treadle-{run_id}-1"],
        [pod],
    )
    await place.jobs_are()


async def test_a_queue_decides_when_jobs_start(tmp_path: Path) -> None:
    async with placing(tmp_path, queue="agents", start_seconds=1) as place:
        run_id = await place.run()
        job = f"treadle-{run_id}-1"
        await place.jobs_are(job)
        await settled(place, 1.5)  # beyond start_seconds
        assert (await place.state(run_id))["epoch"] == 0
        await place.kubelet.resume(job)
        await place.pod(job)


async def test_no_more_jobs_than_there_may_be(tmp_path: Path) -> None:
    async with placing(tmp_path, max_jobs=2) as place:
        runs = [await place.run() for _ in range(4)]
        await place.jobs_are(*(f"treadle-{run_id}-1" for run_id in runs[:2]))
        await settled(place)
        await place.lab.post(f"/api/v1/runs/{runs[0]}/commands", {"type": "cancel"})
        await place.jobs_are(*(f"treadle-{run_id}-1" for run_id in runs[1:3]))


async def test_two_managers_do_no_harm_to_each_other(place: Place) -> None:
    scope = TaskScope("second manager")
    bells, make = Bells(), maker(place.kubernetes, SETTINGS)
    scope.start(make(place.lab.manager.repository, bells, SystemClock()).run(), "placer")
    try:
        fates = ["hang", "exit:9", "hang", "exit:1", "hang", "hang"]
        runs = [await place.run(fate) for fate in fates]
        for run_id, fate in zip(runs, fates, strict=True):
            epoch = 1 if fate == "hang" else 2
            if epoch == 2:
                await place.until(run_id, "run-placement-failed")
            _, claim = await place.claimed(run_id, epoch)
            assert claim["epoch"] == epoch
        await settled(place)
        made = [name for verb, name in place.cluster.history if verb == "create"]
        assert len(made) == len(set(made)) == 8
        for run_id in runs:
            await place.verify(run_id)
            assert (await place.state(run_id))["claimedBy"] is not None
    finally:
        bells.close()
        await scope.close()


async def test_a_crash_between_making_a_job_and_knowing_it_leaves_one(tmp_path: Path) -> None:
    async with placing(tmp_path) as place:
        place.kubernetes.disturb("POST jobs", Disturbance(do_it=True), times=4)
        run_id = await place.run()
        await place.jobs_are(f"treadle-{run_id}-1")
        data = json.loads(json.dumps(place.cluster.objects["jobs"]))
        await place.lab.manager.stop()
        assert list(data) == place.jobs()
        async with control_lab(
            tmp_path / "data", placers=[maker(place.kubernetes, SETTINGS)]
        ) as lab:
            again = Place(lab, place.kubernetes, place.kubelet)
            await again.claimed(run_id)
            assert again.cluster.history == [("create", f"treadle-{run_id}-1")]
