"""Turns in reading a home's files into the index, when several processes do it at once.

A turn is one short batch under a lock. Whoever waits finds what the other read in the index. A
process that was stopped during its turn holds up the others once, and briefly: the work is the
same whoever does it, so they go on without a turn.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path

from treadle.kit.clock import Clock

FILE = "treadle_index_1.lock"
WAIT_SECONDS = 1.0
"""A turn takes some ten milliseconds: whoever keeps it for so long is stuck."""
_POLL_SECONDS = 0.005


class Turns:
    """One process's part in filling the index of a home."""

    def __init__(self, home: Path, clock: Clock, wait_seconds: float = WAIT_SECONDS) -> None:
        self._path = home / FILE
        self._clock = clock
        self._wait_seconds = wait_seconds
        self.stuck = False
        """Whether somebody kept a turn for too long; nobody is waited for any more."""

    @contextlib.contextmanager
    def turn(self) -> Generator[None]:
        """One batch: alone, unless somebody is stuck or the home cannot be written."""
        if self.stuck:
            yield
            return
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            self.stuck = not self._wait(fd)
            yield
        finally:
            os.close(fd)

    def _wait(self, fd: int) -> bool:
        until = self._clock.monotonic() + self._wait_seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._clock.monotonic() > until:
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                return True
