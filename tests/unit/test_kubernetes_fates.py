"""What a pod's or a Job's state means, as Kubernetes writes it."""

from typing import Any

import msgspec
import pytest

from treadle.control.placement.kubernetes.api_types import Job, Pod, PodEvent
from treadle.control.placement.kubernetes.fates import (
    Fate,
    fate_by_events,
    fate_of_ended,
    fate_of_job,
    fate_of_stuck,
)
from treadle.domain.failures import FailureKind

CRASHED, SPAWN = FailureKind.RUNNER_CRASHED, FailureKind.BACKEND_SPAWN_FAILED
SECRET, DEADLINE = FailureKind.SECRET_UNAVAILABLE, FailureKind.DEADLINE_EXCEEDED


def pod(**status: Any) -> Pod:
    return msgspec.convert({"metadata": {"name": "p"}, "status": status}, Pod)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason, "message": "of the container's own"}
    return {"phase": "Failed", "containerStatuses": [{"state": {"terminated": terminated}}]}


PREEMPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "low on\n memory."}


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (EVICTED, CRASHED, "low on memory"),
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, DEADLINE, "exceeded the time"),
        ({"phase": "Failed", "reason": "Shutdown", "message": "m"}, CRASHED, "(Shutdown): m"),
        (ended(137, "OOMKilled"), CRASHED, "OOMKilled"),
        (ended(128, "StartError"), SPAWN, "did not start (StartError)"),
        (ended(3), CRASHED, "exit code 3"),
        ({"phase": "Failed"}, CRASHED, "is gone"),
        ({"conditions": [PREEMPTED]}, CRASHED, "disrupted (PreemptionByScheduler)"),
    ],
)
def test_an_end_has_a_kind_and_a_reason(
    status: dict[str, Any], kind: FailureKind, said: str
) -> None:
    fate = fate_of_ended(pod(**status))
    assert (fate.kind, said in fate.words) == (kind, True), fate
    assert "container's own" not in fate.words


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (waiting("ImagePullBackOff", "back-off"), SPAWN, "(ImagePullBackOff): back-off"),
        (waiting("InvalidImageName"), SPAWN, "(InvalidImageName)"),
        (waiting("CreateContainerConfigError", 'secret "s" not found'), SECRET, 'secret "s"'),
        (waiting("CreateContainerConfigError", "configmap c not found"), SPAWN, "configmap c"),
        (waiting("CreateContainerError", "no device"), SPAWN, "no device"),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                ]
            },
            SPAWN,
            "no node takes its pod",
        ),
        (waiting("ContainerCreating"), SPAWN, "in the time it had"),
        ({}, SPAWN, "in the time it had"),
    ],
)
def test_a_pod_that_does_not_start_says_why(
    status: dict[str, Any], kind: FailureKind, said: str
) -> None:
    fate = fate_of_stuck(pod(**status))
    assert (fate.kind, said in fate.words) == (kind, True), fate
    assert fate.is_vague == ("in the time" in fate.words)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('MountVolume.SetUp failed for volume "c" : secret "s" not found', SECRET),
        ("references non-existent secret key: auth.json", SECRET),
        ("timed out waiting for the device", SPAWN),
    ],
)
def test_events_tell_of_volumes(message: str, kind: FailureKind) -> None:
    vague = Fate(SPAWN, "its pod did not start in the time it had", is_vague=True)
    told = [PodEvent("FailedMount", message), PodEvent("Pulled", "fine")]
    assert fate_by_events(vague, told).kind == kind
    assert fate_by_events(vague, told[1:]) == vague


def test_long_messages_are_cut() -> None:
    assert len(fate_of_stuck(pod(**waiting("ErrImagePull", "x" * 5000))).words) < 400


def test_a_job_tells_where_no_pod_does() -> None:
    def job(*conditions: dict[str, str]) -> Job:
        body = {"metadata": {}, "status": {"conditions": conditions}}
        return msgspec.convert(body, Job)

    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    assert fate_of_job(job(failed)).kind == DEADLINE
    assert (
        "(BackoffLimitExceeded)"
        in fate_of_job(job(failed | {"reason": "BackoffLimitExceeded"})).words
    )
    assert (
        "without taking the run up"
        in fate_of_job(job({"type": "Complete", "status": "True"})).words
    )
