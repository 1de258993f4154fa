"""Ends what we started when we are killed: a small process that waits for our end.

Owns one helper per process, started with the first tied child. It holds the reading end of a pipe
whose writing end only we have; when that closes, however we died, it kills every process that
carries our name in one of its tree marks. Double forks, new sessions or an empty environment do not
help. Linux only (it reads /proc); elsewhere nothing is started.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from treadle.kit.processes import TREE_MARK, owner_bits

_SCRIPT = r"""
import os, signal, sys
os.chdir("/")
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
needle, owner = sys.argv[1].encode(), int(sys.argv[2])
def ours(entry):
    with open(f"/proc/{entry}/limits", "rb") as limits:
        for line in limits:
            if line.startswith(b"Max realtime timeout"):
                value = line[26:].split()[0]
                if value.isdigit() and int(value) >> 32 == owner:
                    return True
    with open(f"/proc/{entry}/environ", "rb") as environ:
        return needle in environ.read()
while os.read(0, 1):
    pass
for _ in range(200):
    found = False
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if not ours(entry):
                continue
            with open(f"/proc/{entry}/stat", "rb") as stat:
                if stat.read().rsplit(b") ", 1)[1][:1] == b"Z":
                    continue
            os.kill(int(entry), signal.SIGKILL)
            found = True
        except OSError:
            continue
    if not found:
        break
"""


class _Watch:
    """The helper of this process."""

    def __init__(self) -> None:
        self.name = os.urandom(8).hex()
        self.owner = os.getpid()
        reading, self._writing = os.pipe()  # not inheritable: no child keeps us "alive"
        # Standard streams are closed to it: a client that waits for our output to end must not wait
        # for the helper. Nothing waits for its end either, as it comes after ours.
        nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _SCRIPT, self.name, str(_top_bits(self.name))],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0), *nothing],
                setsid=True,
            )
        finally:
            os.close(reading)
        self._ended = False

    @property
    def alive(self) -> bool:
        if self.owner != os.getpid():
            return False
        if not self._ended:
            try:
                self._ended = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                self._ended = True
        return not self._ended


def _top_bits(name: str) -> int:
    """What the limits of our children begin with (see `processes.limit_mark`)."""
    return 1 << 29 | owner_bits(name)


_watch: _Watch | None = None


def owner_mark() -> str:
    """The mark that ties a child to our life; starts the helper when it is not running.

    Empty where the system has no /proc: children then outlive a kill of ours.
    """
    global _watch  # noqa: PLW0603 - one helper per process is the point
    if not Path("/proc/self/environ").exists():
        return ""
    if _watch is None or not _watch.alive:
        with contextlib.suppress(OSError):
            _watch = _Watch()
    return _watch.name if _watch is not None else ""


def tied(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that does not outlive us; see `owner_mark`."""
    marks = [mark for mark in (env.get(TREE_MARK), owner_mark()) if mark]
    return {**env, TREE_MARK: "/".join(marks)} if marks else dict(env)
