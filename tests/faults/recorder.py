"""Keeps the history of each run while it happens, and what was seen of idempotency keys."""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from faults.history import Granted, History, Keyed, Shown


@dataclass(frozen=True, slots=True)
class Place:
    """A tenant, or a project of one as TENANT/PROJECT, with its tokens by role."""

    name: str
    tokens: Mapping[str, str]


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
        self.owner_of_run: dict[str, str] = {}
        self.owner_of_runner: dict[str, str] = {}
        """Tenant, or tenant and project, by id."""
        self.looks = 0
        """Requests of visitors."""
        self.rows_shown = 0
        self._shown: set[Shown] = set()

    @staticmethod
    def now() -> float:
        """Seconds of the clock that all records share."""
        return time.monotonic()

    def granted(self, grant: Granted, token: str) -> None:
        """A claim was answered, with a claim token."""
        self.runs[grant.run].granted.append(grant)
        self.newest_epoch[grant.run] = max(self.newest_epoch[grant.run], grant.epoch)
        self.old_tokens[grant.run].append((grant.epoch, token))

    def show(self, caller: str, owner: str, place: str) -> None:
        """A caller was shown a row; kept once for each kind of row."""
        self.rows_shown += 1
        if (shown := Shown(caller, owner, place)) not in self._shown:
            self._shown.add(shown)
            self.common.shown.append(shown)

    def keyed(self, scope: str, key: str, made: str) -> None:
        """A write with a key was answered."""
        self.common.keyed.append(Keyed(scope, key, made))
