"""The last notifications of one loaded thread, encoded as they were sent.

A client that missed some gets them from here. Bounded by bytes: what falls out is told again from
the thread's log where the log keeps it, and is a gap otherwise. Sans-IO.
"""

from collections import deque

import msgspec

from treadle.domain.event_log import STRIDE

BUSY_BYTES = 1 << 20
"""Bound while a turn runs."""

IDLE_BYTES = 32 << 10
"""Bound once it is over: completed items made its deltas needless."""

_OVERHEAD_BYTES = 200
"""What an entry costs beside its frame."""


class Told(msgspec.Struct, frozen=True):
    """One notification: its number in the thread, its method, whether everybody heard it."""

    seq: int
    method: str
    broadcast: bool
    frame: bytes


class EventTail:
    """Everything told with numbers above `floor`, without a hole."""

    def __init__(self, busy_bytes: int = BUSY_BYTES, idle_bytes: int = IDLE_BYTES) -> None:
        self._told: deque[Told] = deque()
        self._size = 0
        self._busy, self._idle = busy_bytes, idle_bytes
        self._last: int | None = None
        self.floor = 0

    def add(self, told: Told) -> None:
        """Take the next notification; a jump in the numbers makes all before it useless."""
        if self._last is None or not _follows(told.seq, self._last):
            self._told.clear()
            self._size = 0
            self.floor = told.seq - 1
        self._last = told.seq
        self._told.append(told)
        self._size += len(told.frame) + _OVERHEAD_BYTES
        self._trim(self._idle if told.method == "turn/completed" else self._busy)

    def after(self, seq: int) -> list[Told]:
        """What is held with a higher number, in order."""
        newer: list[Told] = []
        for told in reversed(self._told):
            if told.seq <= seq:
                break
            newer.append(told)
        return newer[::-1]

    def _trim(self, bound: int) -> None:
        while self._size > bound and self._told:
            gone = self._told.popleft()
            self._size -= len(gone.frame) + _OVERHEAD_BYTES
            self.floor = gone.seq


def _follows(seq: int, last: int) -> bool:
    return seq == last + 1 or (seq % STRIDE == 0 and seq // STRIDE == last // STRIDE + 1)
