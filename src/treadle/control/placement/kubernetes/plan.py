"""What is to be done so that the Jobs in the cluster are those that the runs want; pure.

Looks at how things are, never at what happened, so that nothing depends on having seen a change.
Whatever it decides on an old picture does no harm: names are taken once, Jobs are deleted by uid,
and the database refuses what its epochs have overtaken. That nothing is heard of the cluster is
never a reason.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from treadle.control.placed import GivenUp, PlacedRun
from treadle.control.placement.kubernetes.api_types import Job, Pod
from treadle.control.placement.kubernetes.fates import (
    DEADLINE,
    Fate,
    fate_of_ended,
    fate_of_job,
    fate_of_stuck,
)
from treadle.control.placement.kubernetes.manifests import EPOCH, RUN_ID, job_name
from treadle.control.placement.kubernetes.settings import KubernetesSettings
from treadle.domain.failures import FailureKind

LONGEST_PAUSE_SECONDS = 60.0
DEADLINE_SLACK_SECONDS = 5.0
POD_JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")


class Create(msgspec.Struct, frozen=True):
    """Make the Job of the run's next attempt."""

    run_id: str
    epoch: int


class Delete(msgspec.Struct, frozen=True):
    """Delete this Job; at once, or only when it still runs after it had time to end by itself."""

    name: str
    uid: str
    at_once: bool = True


class ReportGone(msgspec.Struct, frozen=True):
    """Say that the runner in a pod is gone, so that its leases are over."""

    runner_id: str
    fate: Fate


class LookFor(msgspec.Struct, frozen=True):
    """Ask the cluster itself for the pod of a runner that holds a run and is not in the picture."""

    runner_id: str


class GiveUp(msgspec.Struct, frozen=True):
    """Note that an attempt came to nothing; `ask` names a pod whose events may tell why."""

    run_id: str
    epoch: int
    fate: Fate
    ask: str | None = None

    def with_fate(self, fate: Fate) -> GivenUp:
        """What the database is told."""
        words = f"No runner took the run up: {fate.words}."
        return GivenUp(self.run_id, self.epoch, fate.kind, words)


Action = Create | Delete | ReportGone | LookFor | GiveUp


class Picture(msgspec.Struct):
    """The cluster as far as it is known."""

    jobs: Mapping[str, Job]
    pods: Mapping[str, Pod]
    departed: Mapping[str, Pod]
    """Pods that are gone, as they were told of last."""
    is_fresh: bool
    """Whether it was heard of lately."""
    now: datetime


class Plan(msgspec.Struct):
    """What to do now, and after how many seconds to look again at the latest."""

    actions: list[Action] = []
    again_seconds: float = 3600.0

    def look_again_in(self, seconds: float) -> None:
        """Look again no later than so."""
        self.again_seconds = max(0.05, min(self.again_seconds, seconds))


def make_plan(runs: Iterable[PlacedRun], picture: Picture, settings: KubernetesSettings) -> Plan:
    """What to do for these runs, and with Jobs of runs that are not among them.

    Args:
        runs: all that want a runner or have one, and those that unfinished Jobs in the picture
            name; a run that such a Job names and that is not among them does not exist.
        picture: the cluster.
        settings: limits and times.
    """
    plan = Plan()
    jobs_of: dict[str, list[Job]] = {}
    for job in picture.jobs.values():
        jobs_of.setdefault(job.label(RUN_ID) or "", []).append(job)
    view = _View(picture, settings, plan)
    for run in runs:
        view.look_at(run, sorted(jobs_of.pop(run.run_id, []), key=epoch_of))
    for orphans in jobs_of.values():
        view.not_wanted(orphans)
    _keep_within(plan, picture, settings.max_jobs)
    return plan


def epoch_of(job: Job) -> int:
    """The epoch that a Job's runner was to claim its run under."""
    text = job.label(EPOCH) or ""
    return int(text) if text.isascii() and text.isdigit() else 0


def is_ours(run: PlacedRun) -> bool:
    """Whether a run is held under an attempt that is named as Jobs of it are."""
    epoch = (run.attempt_id or "").rpartition("-")[2]
    return epoch.isdigit() and run.attempt_id == job_name(run.run_id, int(epoch))


def pause_after(epoch: int) -> float:
    """Seconds from the making of one attempt's Job to that of the next, at least."""
    return min(2.0 ** min(epoch, 10), LONGEST_PAUSE_SECONDS)


def _keep_within(plan: Plan, picture: Picture, most: int) -> None:
    """Leave out what would make more Jobs than there may be; the oldest runs come first."""
    free = most - sum(not job.is_finished for job in picture.jobs.values())
    wanted = sorted((a for a in plan.actions if isinstance(a, Create)), key=lambda a: a.run_id)
    for late in wanted[max(free, 0) :]:
        plan.actions.remove(late)


class _View:
    """One look at everything."""

    def __init__(self, picture: Picture, settings: KubernetesSettings, plan: Plan) -> None:
        self._picture = picture
        self._settings = settings
        self._plan = plan
        self._pods_of: dict[str, list[Pod]] = {}
        for pod in picture.pods.values():
            name = next((pod.label(label) for label in POD_JOB_LABELS if pod.label(label)), None)
            self._pods_of.setdefault(name or "", []).append(pod)

    def look_at(self, run: PlacedRun, jobs: list[Job]) -> None:
        if run.runner_id is not None and not run.is_ended:
            self._held(run, run.runner_id, jobs)
        elif run.is_waiting and not run.is_ended:
            self._waiting(run, jobs)
        else:
            self.not_wanted(jobs)

    def not_wanted(self, jobs: list[Job]) -> None:
        """Whoever works there has just ended its run, or gave it back: let it end by itself."""
        for job in jobs:
            pods = self._pods_of.get(job.metadata.name, [])
            runs = any(pod.status.phase in {"Running", "Unknown"} for pod in pods)
            self._delete(job, at_once=not runs)

    def _held(self, run: PlacedRun, runner_id: str, jobs: list[Job]) -> None:
        pod = self._picture.pods.get(runner_id)
        gone = self._picture.departed.get(runner_id) if pod is None else None
        ended = pod if pod is not None and pod.is_over else gone
        if ended is not None:
            fate = self._fate_of_ended(ended, jobs)
            self._plan.actions.append(ReportGone(runner_id, fate))
        elif pod is None and runner_id.startswith(f"{run.attempt_id}-") and is_ours(run):
            self._plan.actions.append(LookFor(runner_id))
        for job in jobs:
            if job.metadata.name != run.attempt_id and epoch_of(job) <= run.epoch:
                self._delete(job)

    def _waiting(self, run: PlacedRun, jobs: list[Job]) -> None:
        earlier = [job for job in jobs if epoch_of(job) <= run.epoch]
        ready = [job for job in jobs if epoch_of(job) > run.epoch]
        if ready:
            for job in earlier:
                self._delete(job)
            self._ready(run, ready[-1])
            return
        last = earlier[-1] if earlier else None
        if last is not None and epoch_of(last) == run.epoch and self._is_too_late(last):
            fate = Fate(FailureKind.DEADLINE_EXCEEDED, "its Job exceeded the time of an attempt")
            self._plan.actions.append(GiveUp(run.run_id, run.epoch, fate))
            return
        wait = self._pause_left(last)
        if wait > 0:
            self._plan.look_again_in(wait)
            return
        for job in earlier:
            self._delete(job)
        self._plan.actions.append(Create(run.run_id, run.epoch + 1))

    def _ready(self, run: PlacedRun, job: Job) -> None:
        """The Job whose runner is to come: let it, unless it cannot any more."""
        found = self._why_not(job)
        if found is not None:
            fate, ask = found
            self._plan.actions.append(GiveUp(run.run_id, epoch_of(job), fate, ask))

    def _why_not(self, job: Job) -> tuple[Fate, str | None] | None:
        """Why nobody will come from a Job, and a pod whose events may tell more."""
        pods = self._pods_of.get(job.metadata.name, [])
        pod = max(pods, key=lambda each: _made_at(each) or 0.0, default=None)
        if job.is_finished:
            by_job = fate_of_job(job)
            if by_job.kind == FailureKind.DEADLINE_EXCEEDED or pod is None or not pod.is_over:
                return by_job, None
            return fate_of_ended(pod), None
        if job.is_leaving:
            since = job.metadata.deletion_timestamp
            words = "its Job was deleted, and does not go away"
            return self._late(since, Fate(FailureKind.RUNNER_CRASHED, words), None)
        if job.spec.suspend:
            return None
        if pod is None:
            since = job.status.start_time or job.metadata.creation_timestamp
            words = "no pod was made for its Job"
            return self._late(since, Fate(FailureKind.BACKEND_SPAWN_FAILED, words), None)
        since = pod.metadata.creation_timestamp
        if pod.status.phase == "Pending":
            fate = fate_of_stuck(pod)
            return self._late(since, fate, pod.metadata.name if fate.is_vague else None)
        if pod.status.phase == "Running":
            fate = Fate(FailureKind.RUNNER_CRASHED, "its pod runs and did not take the run up")
            return self._late(since, fate, None, times=2)
        return None

    def _late(
        self, since: datetime | None, fate: Fate, ask: str | None, times: int = 1
    ) -> tuple[Fate, str | None] | None:
        """The fate, once it had its time to change for the better and that can be told."""
        limit = self._settings.start_seconds * times
        left = limit - self._seconds_since(since)
        if left > 0:
            self._plan.look_again_in(left)
            return None
        return (fate, ask) if self._picture.is_fresh else None

    def _fate_of_ended(self, pod: Pod, jobs: list[Job]) -> Fate:
        name = next((pod.label(label) for label in POD_JOB_LABELS if pod.label(label)), None)
        job = next((each for each in jobs if each.metadata.name == name), None)
        if job is not None and self._is_too_late(job):
            return Fate(FailureKind.DEADLINE_EXCEEDED, "its Job exceeded the time of an attempt")
        return fate_of_ended(pod)

    def _is_too_late(self, job: Job) -> bool:
        """Whether the time of an attempt is over, though Kubernetes may still be about it."""
        failure = job.failure
        if failure is not None:
            return failure.reason == DEADLINE
        if job.is_finished or job.status.start_time is None:
            return False
        limit = self._settings.attempt_seconds - DEADLINE_SLACK_SECONDS
        return self._seconds_since(job.status.start_time) >= limit

    def _pause_left(self, last: Job | None) -> float:
        if last is None:
            return 0.0
        pause = pause_after(epoch_of(last))
        left = pause - self._seconds_since(last.metadata.creation_timestamp)
        # A cluster whose clock is ahead of ours may not hold anything up for longer than a pause.
        return left if left <= pause else 0.0

    def _seconds_since(self, moment: datetime | None) -> float:
        if moment is None:
            return 0.0
        return (self._picture.now - moment) / timedelta(seconds=1)

    def _delete(self, job: Job, *, at_once: bool = True) -> None:
        if not (job.is_finished or job.is_leaving):
            self._plan.actions.append(Delete(job.metadata.name, job.metadata.uid, at_once))


def _made_at(pod: Pod) -> float | None:
    made = pod.metadata.creation_timestamp
    return None if made is None else made.astimezone(UTC).timestamp()
