"""Objects of the Kubernetes API, as far as placement reads them; pure.

Unknown members are passed over, so that any release of the API can be read. What is written is in
`manifests`.
"""

from datetime import datetime

import msgspec


class ApiObject(msgspec.Struct, rename="camel", frozen=True):
    """Base of everything that the API sends."""


class Meta(ApiObject, frozen=True):
    """Who an object is; a uid never comes again, a name may."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class Condition(ApiObject, frozen=True):
    """One observation about an object; `status` is True, False or Unknown."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class JobSpec(ApiObject, frozen=True):
    """What of a Job's wishes is read."""

    suspend: bool | None = None


class JobStatus(ApiObject, frozen=True):
    """How a Job is."""

    conditions: list[Condition] | None = None
    start_time: datetime | None = None


class Named(ApiObject, frozen=True):
    """What all objects of the cluster have."""

    metadata: Meta

    def label(self, name: str) -> str | None:
        """A label's value."""
        return (self.metadata.labels or {}).get(name)


class Job(Named, frozen=True):
    """A Job."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def failure(self) -> Condition | None:
        """Why the Job failed; None when it did not."""
        return _true(self.status.conditions, "Failed")

    @property
    def is_finished(self) -> bool:
        """Whether it will start nothing more."""
        return self.failure is not None or _true(self.status.conditions, "Complete") is not None

    @property
    def is_leaving(self) -> bool:
        """Whether it was deleted and only waits for something to let it go."""
        return self.metadata.deletion_timestamp is not None


class Waiting(ApiObject, frozen=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Terminated(ApiObject, frozen=True):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(ApiObject, frozen=True):
    """One of them is there."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(ApiObject, frozen=True):
    """How a container is."""

    name: str = ""
    state: ContainerState = ContainerState()


class PodStatus(ApiObject, frozen=True):
    """How a pod is."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None


class Pod(Named, frozen=True):
    """A pod."""

    status: PodStatus = PodStatus()

    @property
    def is_over(self) -> bool:
        """Whether its containers have ended for good; a lost node's pod is not known to."""
        return self.status.phase in {"Succeeded", "Failed"}

    def condition(self, name: str) -> Condition | None:
        """A condition, whatever its status."""
        return next((each for each in self.status.conditions or () if each.type == name), None)


class PodEvent(ApiObject, frozen=True):
    """What the cluster says of a pod."""

    reason: str = ""
    message: str = ""


class ListMeta(ApiObject, frozen=True):
    """Where a list stands; `continue_` leads to its next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class StatusAnswer(ApiObject, frozen=True):
    """A refusal."""

    code: int = 0
    reason: str = ""
    message: str = ""


def _true(conditions: list[Condition] | None, name: str) -> Condition | None:
    found = (each for each in conditions or () if each.type == name and each.status == "True")
    return next(found, None)
