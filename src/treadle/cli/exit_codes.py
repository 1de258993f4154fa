"""Exit codes of the commands that carry out, follow or ask about work: one table.

What failed says who can mend it: the service's operator, the user, or time alone.
"""

from treadle.domain.failures import FACTS, FailureClass, FailureKind

DONE = 0
FAILED = 1
"""The service failed, or the manager."""
MISUSED = 2
"""The request was wrong: options, no such run, a run that has ended."""
USER = 3
"""Only the user can mend it: key, secret, context, budget. A blocked run is one of these."""
CANCELLED = 4
NOT_RUN = 5
"""The run was not ours to end: lease held elsewhere or lost, nothing to do."""
TRANSIENT = 6
"""It failed for now, or no manager answers: trying again can help."""
DIFFERS = 7
"""A log does not explain what is stored."""
STOPPED = 130
"""After a stop signal."""

CLASS_CODES = {
    FailureClass.SERVICE: FAILED,
    FailureClass.USER: USER,
    FailureClass.TRANSIENT: TRANSIENT,
}
_ENDS = {"completed": DONE, "blocked": USER, "cancelled": CANCELLED}


def code_of_run(terminal_status: str | None, failure_kind: str | None) -> int:
    """The exit code for how a run or turn ended; `NOT_RUN` while it has not."""
    if terminal_status != "failed":
        return _ENDS.get(terminal_status or "", NOT_RUN)
    known = FailureKind(failure_kind) if failure_kind in set(FailureKind) else None
    return CLASS_CODES[FACTS[known or FailureKind.BACKEND_UNKNOWN].failure_class]
