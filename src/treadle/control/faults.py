"""The closed family of what the control plane refuses, as fields instead of texts.

Raised by rules, repositories and the run log; turned into problem+json in `http/problems` and
nowhere else. Knows no status code.
"""


class ControlFault(Exception):
    """Base of the family; `detail` is fit to be shown and says what to do."""

    def __init__(self, detail: str) -> None:
        """Keep the text that a caller may see."""
        super().__init__(detail)
        self.detail = detail


class InvalidRequest(ControlFault):
    """What was sent cannot be taken; `path` names the field, as in `$.events[0].type`."""

    def __init__(self, detail: str, path: str | None = None) -> None:
        """Name the field where there is one."""
        super().__init__(detail)
        self.path = path


class CredentialMissing(ControlFault):
    """The run's secret scope has no credential for its backend profile."""


class NotFound(ControlFault):
    """No such thing; `thing` is `run`, `command` or `runner`."""

    def __init__(self, thing: str, detail: str) -> None:
        """Name the kind of thing that is missing."""
        super().__init__(detail)
        self.thing = thing


class Forbidden(ControlFault):
    """The caller's role or tenant does not allow this; the text says what would."""


class LeaseHeld(ControlFault):
    """Another lease on the run is live."""

    def __init__(self, claimed_by: str, retry_after_ms: int) -> None:
        """Say who holds it and for how long at most."""
        super().__init__(f"The run is held by {claimed_by}; claim again after retryAfterMs.")
        self.claimed_by = claimed_by
        self.retry_after_ms = retry_after_ms


class Fenced(ControlFault):
    """The write's epoch is over."""

    def __init__(self, epoch: int) -> None:
        """Carry the run's current epoch."""
        super().__init__(f"This lease is over (current epoch {epoch}); stop, or claim again.")
        self.epoch = epoch


class BadToken(ControlFault):
    """A claim or session token that does not fit."""


class ProducerGap(ControlFault):
    """Events before `first_producer_seq` are missing."""

    def __init__(self, expected: int) -> None:
        """Carry the producer seq to send next."""
        super().__init__(f"Events are missing; send again from producer seq {expected}.")
        self.expected = expected


class RunEnded(ControlFault):
    """The run takes nothing any more."""

    def __init__(self, terminal_status: str) -> None:
        """Carry how it ended."""
        super().__init__(f"The run has ended ({terminal_status}); create a new run.")
        self.terminal_status = terminal_status


class EventsGone(ControlFault):
    """Retention has dropped the events that were asked for."""

    def __init__(self, min_seq: int) -> None:
        """Carry the first seq that is still there."""
        super().__init__(
            f"These events were dropped after their time; read on after seq {min_seq - 1}."
        )
        self.min_seq = min_seq


class RunBusy(ControlFault):
    """The run's policy refuses a second open turn."""


class RunnerDraining(ControlFault):
    """The runner was told to take no more runs."""


class RunnerGone(ControlFault):
    """The runner's registration is over: it was reported gone, or its id was registered anew."""


class IdempotencyConflict(ControlFault):
    """The key was used for another request."""


class Overloaded(ControlFault):
    """Too much is waiting; the same request may be sent again."""


class Stopping(ControlFault):
    """The manager is going away; the same request may be sent again."""


class DatabaseUnusable(ControlFault):
    """The database cannot be opened or used; the text names reason and remedy."""
