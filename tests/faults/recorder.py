"""Keeps the history of each run while it happens, and what was seen of idempotency keys."""

import time
from collections import defaultdict

from faults.history import History, Keyed


class Recorder:
    """One history per run; what belongs to no run is in `common`."""

    def __init__(self) -> None:
        self.runs: dict[str, History] = defaultdict(History)
        self.common = History()
        self.acked_events = 0
        self.allowed_events = float("inf")
        """Writers slow down past this, so that each fault meets some load."""
        self.newest_epoch: dict[str, int] = defaultdict(int)
        self.old_tokens: dict[str, list[tuple[int, str]]] = defaultdict(list)
        """Per run, epochs with their claim tokens, oldest first."""

    @staticmethod
    def now() -> float:
        """Seconds of the clock that all records share."""
        return time.monotonic()

    def keyed(self, scope: str, key: str, made: str) -> None:
        """A write with a key was answered."""
        self.common.keyed.append(Keyed(scope, key, made))
