"""What became of a pod or a Job, as a kind of failure and in words; pure.

The one table from what Kubernetes says to `domain.failures`. Messages of the cluster are told in
part, what containers wrote never.
"""

from collections.abc import Iterable

import msgspec

from treadle.control.placement.kubernetes.api_types import Job, Pod, PodEvent, Terminated
from treadle.domain.failures import FailureKind

MESSAGE_LIMIT = 300
IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "FailedMount"})
DEADLINE = "DeadlineExceeded"
_SECRET_WORDS = ("secret", "non-existent config key", "references non-existent")


class Fate(msgspec.Struct, frozen=True):
    """What became of it."""

    kind: FailureKind
    words: str
    is_vague: bool = False
    """Whether the cluster's events of the pod may tell more."""


VANISHED = Fate(FailureKind.RUNNER_CRASHED, "its pod is gone")


def fate_of_ended(pod: Pod) -> Fate:
    """Why a pod is over, or gone."""
    status = pod.status
    ended = _terminated(pod)
    if status.reason == DEADLINE:
        return Fate(FailureKind.DEADLINE_EXCEEDED, "its pod exceeded the time of an attempt")
    if status.reason == "Evicted":
        return _crashed("its pod was evicted", status.message)
    if status.reason:
        return _crashed(f"its pod ended ({status.reason})", status.message)
    disruption = pod.condition("DisruptionTarget")
    if disruption is not None and disruption.status == "True":
        return _crashed(f"its pod was disrupted ({disruption.reason})", disruption.message)
    if ended is not None and ended.reason == "OOMKilled":
        return _crashed("its pod exceeded the memory limit and was killed (OOMKilled)")
    if ended is not None and ended.reason in {"StartError", "ContainerCannotRun"}:
        return Fate(
            FailureKind.BACKEND_SPAWN_FAILED, f"its container did not start ({ended.reason})"
        )
    if ended is not None:
        return _crashed(f"its pod ended with exit code {ended.exit_code}")
    return VANISHED


def fate_of_stuck(pod: Pod) -> Fate:
    """Why a pod does not start."""
    for container in pod.status.container_statuses or ():
        waiting = container.state.waiting
        if waiting is None:
            continue
        if waiting.reason in IMAGE_REASONS:
            return _unstarted(f"its image cannot be had ({waiting.reason})", waiting.message)
        if waiting.reason in CONFIG_REASONS:
            return _unfit(waiting.reason, waiting.message)
        if waiting.reason not in {"", "ContainerCreating", "PodInitializing"}:
            return _unstarted(f"its container does not start ({waiting.reason})", waiting.message)
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return _unstarted(f"no node takes its pod ({scheduled.reason})", scheduled.message)
    return Fate(
        FailureKind.BACKEND_SPAWN_FAILED, "its pod did not start in the time it had", is_vague=True
    )


def fate_by_events(fate: Fate, events: Iterable[PodEvent]) -> Fate:
    """The fate of a pod that does not start, with what the cluster's events tell of it."""
    for event in reversed(list(events)):
        if event.reason == "FailedMount":
            return _unfit(event.reason, event.message)
        if event.reason in {"FailedAttachVolume", "FailedCreatePodSandBox", "Failed"}:
            return _unstarted(f"{fate.words} ({event.reason})", event.message)
    return fate


def fate_of_job(job: Job) -> Fate:
    """Why a Job that has no pod to tell of it came to nothing."""
    failure = job.failure
    if failure is None:
        return _crashed("its Job ended without taking the run up")
    if failure.reason == DEADLINE:
        return Fate(FailureKind.DEADLINE_EXCEEDED, "its Job exceeded the time of an attempt")
    return _crashed(f"its Job failed ({failure.reason})", failure.message)


def _crashed(words: str, message: str = "") -> Fate:
    return Fate(FailureKind.RUNNER_CRASHED, _with(words, message))


def _unstarted(words: str, message: str) -> Fate:
    return Fate(FailureKind.BACKEND_SPAWN_FAILED, _with(words, message))


def _unfit(reason: str, message: str) -> Fate:
    """What a container needs is missing: a Secret or its key, else a volume."""
    if any(word in message.lower() for word in _SECRET_WORDS):
        words = f"a Secret that its pod mounts is not there or lacks a key ({reason})"
        return Fate(FailureKind.SECRET_UNAVAILABLE, _with(words, message))
    return _unstarted(f"what its pod needs cannot be had ({reason})", message)


def _with(words: str, message: str) -> str:
    message = " ".join(message.split()).rstrip(".")
    if not message:
        return words
    short = message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + "..."
    return f"{words}: {short}"


def _terminated(pod: Pod) -> Terminated | None:
    ended = (each.state.terminated for each in pod.status.container_statuses or ())
    return next((each for each in ended if each is not None), None)
