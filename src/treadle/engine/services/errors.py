"""What services refuse, as a closed family; the store's own family passes through.

Each class answers one question: what can the caller do? Texts are meant for clients.
"""

from typing import Any

from treadle.engine.services.planning import PlanRejected
from treadle.engine.store.thread_store import (
    InvalidQuery,
    StorageFailed,
    StoreError,
    ThreadIsArchived,
    ThreadNotFound,
    Unsupported,
    WriterConflict,
)

__all__ = [
    "ConfigRejected",
    "FeedbackFailed",
    "InputTooLarge",
    "InvalidQuery",
    "McpFailed",
    "NoGitDiff",
    "NoSearchFolders",
    "NotOpen",
    "NotSteerable",
    "PlanRejected",
    "Refused",
    "StartFailed",
    "StorageFailed",
    "StoreError",
    "ThreadIsArchived",
    "ThreadNotFound",
    "ThreadNotLoaded",
    "TurnInTheWay",
    "Unsupported",
    "WriterConflict",
]


class Refused(Exception):
    """The request does not fit the state of things; the text says how."""


class StartFailed(Exception):
    """Something without which the thread may not run did not start; the text names it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"error creating thread: Fatal error: Failed to initialize session: {reason}"
        )


class ThreadNotLoaded(Refused):
    """The thread must be started or resumed first."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"thread not found: {thread_id}")


class NotOpen(Exception):
    """A question takes no answer (any more): look at the thread's approvals.

    Attributes:
        settled: how it ended, where it did.
    """

    def __init__(self, number: int, why: str, settled: dict[str, Any] | None = None) -> None:
        super().__init__(f"request {number} is not open: {why}")
        self.data: dict[str, Any] = {"requestId": number, "settled": settled}


class NotSteerable(Refused):
    """The running turn takes no input: it must end first, or be interrupted."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"cannot steer a {kind} turn")
        self.kind = kind
        self.data: dict[str, Any] = {
            "message": str(self),
            "codexErrorInfo": {"activeTurnNotSteerable": {"turnKind": kind}},
        }


class TurnInTheWay(Exception):
    """A turn that takes no input runs, so none can be started."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            "failed to submit turn input: "
            f"ActiveTurnNotSteerable {{ turn_kind: {kind.capitalize()} }}"
        )


class InputTooLarge(Exception):
    """The input has more characters than a turn takes."""

    def __init__(self, max_chars: int, actual_chars: int) -> None:
        super().__init__(f"Input exceeds the maximum length of {max_chars} characters.")
        self.data: dict[str, Any] = {
            "input_error_code": "input_too_large",
            "max_chars": max_chars,
            "actual_chars": actual_chars,
        }


class ConfigRejected(Exception):
    """A configuration request cannot be carried out.

    Attributes:
        message: what the client is told.
        code: the protocol's `config_write_error_code`, None outside of writes.
        internal: whether the fault lies in stored configuration rather than in the request.
    """

    def __init__(self, message: str, *, code: str | None = None, internal: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.internal = internal


class McpFailed(Exception):
    """A server could not do what was asked; the text is for the client.

    Attributes:
        code: the JSON-RPC code that the server itself answered with, if it did.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class NoSearchFolders(Exception):
    """A session was asked for without a folder to search."""

    def __init__(self) -> None:
        super().__init__(
            "failed to start fuzzy file search session: at least one search directory is required"
        )


class NoGitDiff(Exception):
    """There is no repository, no remote branch, or git failed; the text names the folder."""

    def __init__(self, cwd: str) -> None:
        super().__init__(f'failed to compute git diff to remote for cwd: "{cwd}"')


class FeedbackFailed(Exception):
    """The archive could not be made; the text says why, and nothing is left of it."""
