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
    "InputTooLarge",
    "InvalidQuery",
    "PlanRejected",
    "Refused",
    "StorageFailed",
    "StoreError",
    "ThreadIsArchived",
    "ThreadNotFound",
    "ThreadNotLoaded",
    "Unsupported",
    "WriterConflict",
]


class Refused(Exception):
    """The request does not fit the state of things; the text says how."""


class ThreadNotLoaded(Refused):
    """The thread must be started or resumed first."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"thread not found: {thread_id}")


class InputTooLarge(Exception):
    """The input has more characters than a turn takes."""

    def __init__(self, max_chars: int, actual_chars: int) -> None:
        super().__init__(f"Input exceeds the maximum length of {max_chars} characters.")
        self.data: dict[str, Any] = {
            "input_error_code": "input_too_large",
            "max_chars": max_chars,
            "actual_chars": actual_chars,
        }
