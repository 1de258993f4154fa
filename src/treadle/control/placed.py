"""Runs whose runners are placed, as a placer and the database tell each other of them; pure."""

import msgspec

from treadle.domain.failures import FACTS, FailureKind

PROCESS = "process"
"""The placement of a run that any runner of the pool takes."""


class PlacedRun(msgspec.Struct, frozen=True):
    """Where a run stands that asks for a runner of its own."""

    run_id: str
    epoch: int
    """Of the last claim, or of the last attempt that was given up unclaimed."""
    runner_id: str | None
    """Who holds it."""
    attempt_id: str | None
    """The attempt under which it is held."""
    is_waiting: bool
    """Whether there is work and nobody holds it."""
    is_ended: bool


class GivenUp(msgspec.Struct, frozen=True):
    """That the runner which was placed for an epoch of a run will do no more for it."""

    run_id: str
    epoch: int
    kind: FailureKind
    message: str
    is_hopeless: bool = False
    """Whether another attempt cannot help, whatever the kind says."""

    @property
    def ends_the_run(self) -> bool:
        """Whether there is to be no further attempt."""
        return self.is_hopeless or not FACTS[self.kind].retryable
