"""What is done for runs and Jobs in whatever state they are found together."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from treadle.control.placed import PlacedRun
from treadle.control.placement.kubernetes.api_types import Job, Pod
from treadle.control.placement.kubernetes.manifests import EPOCH, RUN_ID, job_name
from treadle.control.placement.kubernetes.plan import (
    Create,
    Delete,
    GiveUp,
    LookFor,
    Picture,
    Plan,
    ReportGone,
    make_plan,
    pause_after,
)
from treadle.control.placement.kubernetes.settings import KubernetesSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = KubernetesSettings(
    namespace="n", image="i", manager_url="http://m", token_secret="t", max_jobs=5
)
START, ATTEMPT = SETTINGS.start_seconds, SETTINGS.attempt_seconds


def job(run: str, epoch: int, age: float = 1000.0, state: str = "active", **more: Any) -> Job:
    made = (NOW - timedelta(seconds=age)).isoformat()
    conditions = {"failed": "Failed", "complete": "Complete", "late": "Failed"}
    reason = "DeadlineExceeded" if state == "late" else ""
    found = conditions.get(state)
    body: dict[str, Any] = {
        "metadata": {
            "name": job_name(run, epoch),
            "uid": f"uid-{run}-{epoch}",
            "labels": {RUN_ID: run, EPOCH: str(epoch)},
            "creationTimestamp": made,
            **({"deletionTimestamp": made} if state == "leaving" else {}),
        },
        "spec": {"suspend": state == "suspended"},
        "status": {
            "startTime": None if state == "suspended" else made,
            "conditions": [{"type": found, "status": "True", "reason": reason}] if found else [],
        },
        **more,
    }
    return msgspec.convert(body, Job)


def pod(of: Job, phase: str, age: float = 1.0, nth: int = 1) -> Pod:
    body = {
        "metadata": {
            "name": f"{of.metadata.name}-{nth}",
            "labels": {"batch.kubernetes.io/job-name": of.metadata.name},
            "creationTimestamp": (NOW - timedelta(seconds=age)).isoformat(),
        },
        "status": {"phase": phase},
    }
    return msgspec.convert(body, Pod)


def picture(jobs: list[Job], pods: list[Pod] | None = None, **more: Any) -> Picture:
    facts: dict[str, Any] = {"departed": {}, "is_fresh": True, "now": NOW, **more}
    return Picture(
        {each.metadata.name: each for each in jobs},
        {each.metadata.name: each for each in pods or []},
        **facts,
    )


def waits(epoch: int = 0, run: str = "r") -> PlacedRun:
    return PlacedRun(run, epoch, None, None, True, False)


def held(epoch: int, runner: str, attempt: str, run: str = "r") -> PlacedRun:
    return PlacedRun(run, epoch, runner, attempt, False, False)


def plan(runs: list[PlacedRun], seen: Picture) -> Plan:
    return make_plan(runs, seen, SETTINGS)


def test_a_crash_loop_is_slowed_down_and_a_long_life_is_not() -> None:
    young = picture([job("r", 3, age=2, state="failed")])
    assert (plan([waits(3)], young).actions, plan([waits(3)], young).again_seconds) == ([], 6)
    assert plan([waits(3)], picture([job("r", 3, age=600)])).actions == [
        Delete("treadle-r-3", "uid-r-3"),
        Create("r", 4),
    ]
    ahead = picture([job("r", 3, age=-500, state="failed")])
    assert plan([waits(3)], ahead).actions == [Create("r", 4)], (
        "a clock that is wrong holds nothing"
    )
    assert pause_after(100) == 60


def test_nothing_is_given_up_while_nothing_is_heard() -> None:
    made = job("r", 1)
    stuck = [pod(made, "Pending", age=START + 1)]
    (action,) = plan([waits()], picture([made], stuck)).actions
    assert isinstance(action, GiveUp)
    assert plan([waits()], picture([made], stuck, is_fresh=False)).actions == []
    early = plan([waits()], picture([made], [pod(made, "Pending", age=START - 7)]))
    assert (early.actions, round(early.again_seconds)) == ([], 7)


def test_a_runner_that_starts_late_gets_time_to_claim() -> None:
    made = job("r", 1)
    assert plan([waits()], picture([made], [pod(made, "Running", age=START + 1)])).actions == []
    (action,) = plan([waits()], picture([made], [pod(made, "Running", age=2 * START)])).actions
    assert isinstance(action, GiveUp)


def test_who_holds_a_run_is_left_alone_by_all_but_its_own_end() -> None:
    mine, old, spare = job("r", 2), job("r", 1), job("r", 3)
    holder = held(2, f"{mine.metadata.name}-1", mine.metadata.name)
    for phase in ("Running", "Pending", "Unknown"):
        seen = picture([mine, old, spare], [pod(mine, phase, age=9999)])
        assert plan([holder], seen).actions == [Delete("treadle-r-1", "uid-r-1")]
    seen = picture([mine], [pod(mine, "Failed")])
    (action,) = plan([holder], seen).actions
    assert isinstance(action, ReportGone)
    gone = pod(mine, "Running")
    (action,) = plan([holder], picture([], [], departed={gone.metadata.name: gone})).actions
    assert isinstance(action, ReportGone)
    # Not to have seen it is no evidence; the cluster is asked, and only for pods of ours.
    assert plan([holder], picture([])).actions == [LookFor(holder.runner_id or "")]
    assert plan([held(2, "by hand", "an attempt")], picture([])).actions == []
    assert plan([held(2, "by hand", mine.metadata.name)], picture([])).actions == []


def test_time_that_is_over_is_known_before_the_cluster_says_so() -> None:
    late = job("r", 1, age=ATTEMPT)
    (action,) = plan([waits(1)], picture([late])).actions
    assert isinstance(action, GiveUp)
    assert action.with_fate(action.fate).ends_the_run
    earlier = plan([waits(1)], picture([job("r", 1, age=ATTEMPT - 60)])).actions
    assert Create("r", 2) in earlier


def test_the_oldest_runs_come_first_when_not_all_may() -> None:
    running = [job(f"a{n}", 1, state="suspended") for n in range(3)]
    runs = [held(1, "x", "y", run=f"a{n}") for n in range(3)]
    runs = [msgspec.structs.replace(run, attempt_id=job_name(run.run_id, 1)) for run in runs]
    made = plan([*(waits(run=f"r{n}") for n in (4, 2, 3, 1)), *runs], picture(running)).actions
    assert made == [Create("r2", 1), Create("r1", 1)]


STATES = ("active", "failed", "complete", "late", "leaving", "suspended")
JOBS = st.dictionaries(
    st.integers(0, 4), st.tuples(st.sampled_from(STATES), st.sampled_from([1.0, 400.0, 1e6]))
)
PODS = st.dictionaries(
    st.integers(0, 4),
    st.tuples(
        st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        st.sampled_from([1.0, 400.0, 1e6]),
    ),
)


def name_at(epoch: int) -> str:
    return job_name("r", epoch)


RUNS = st.one_of(
    st.builds(waits, st.integers(0, 3)),
    st.builds(lambda e, a: held(e, f"{name_at(a)}-1", name_at(a)), *[st.integers(1, 3)] * 2),
    st.builds(lambda e: PlacedRun("r", e, None, None, False, False), st.integers(0, 3)),
    st.builds(lambda e: PlacedRun("r", e, None, None, False, True), st.integers(0, 3)),
    st.none(),
)  # fmt: skip


@given(RUNS, JOBS, PODS, st.booleans())
def test_no_picture_leads_to_harm(
    run: PlacedRun | None, jobs: dict[int, Any], pods: dict[int, Any], is_fresh: bool
) -> None:
    made = {epoch: job("r", epoch, age, state) for epoch, (state, age) in jobs.items()}
    seen = [pod(job("r", epoch), phase, age) for epoch, (phase, age) in pods.items()]
    actions = plan(
        [run] if run else [], picture(list(made.values()), seen, is_fresh=is_fresh)
    ).actions
    creates = [each for each in actions if isinstance(each, Create)]
    deletes = [each.name for each in actions if isinstance(each, Delete)]
    assert len(creates) <= 1
    assert len(set(deletes)) == len(deletes)
    for each in creates:
        assert run is not None
        assert run.is_waiting
        assert each.epoch == run.epoch + 1
        assert each.epoch not in made
        alive = [e for e, j in made.items() if not j.is_finished and not j.is_leaving]
        assert {job_name("r", e) for e in alive} <= set(deletes), "one attempt at a time"
    if run is not None and run.runner_id is not None:
        assert run.attempt_id not in deletes
        assert not any(isinstance(each, GiveUp) for each in actions)
    for each in actions:
        if isinstance(each, ReportGone):
            ended = {p.metadata.name for p in seen if p.status.phase in {"Succeeded", "Failed"}}
            assert each.runner_id in ended
        if isinstance(each, GiveUp):
            assert run is not None
            assert run.is_waiting
            assert each.epoch >= run.epoch
    for name in deletes:
        (gone,) = [each for each in made.values() if each.metadata.name == name]
        assert not gone.is_finished
