"""One file of a home with a line per fact about a thread; the last line of an id wins.

Several processes append and rewrite it: each does so under a lock on the file as it lies there.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from treadle.engine.store.local.rollout_files import Appender
from treadle.engine.store.thread_store import StorageFailed
from treadle.kit.clock import Clock
from treadle.kit.fault_points import reach

Json = dict[str, Any]
_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.005
_lines = msgspec.json.Decoder(Json)


class HomeLines:
    """The lines of one file. Used from one thread at a time."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._state: tuple[int, int, int] | None = None

    def changed(self) -> bool:
        """Whether the file is another than at the last call (the first: whether it is there)."""
        try:
            stat = os.stat(self._path)
        except OSError:
            state = None
        else:
            state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        before, self._state = self._state, state
        return state != before

    def read(self) -> Iterator[Json]:
        """Every readable line that has an id, in order."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return
        for raw in data.split(b"\n"):
            try:
                line = _lines.decode(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if line.get("id"):
                yield line

    def append(self, line: Json) -> None:
        """Add a line; raises StorageFailed."""
        with self._locked():
            file = Appender(self._path)
            file.put(msgspec.json.encode(line) + b"\n")
            try:
                file.write()
            finally:
                file.close()

    def remove(self, thread_id: str) -> None:
        """Take every line of a thread out of the file; raises StorageFailed."""
        if not self._path.exists():
            return
        with self._locked():
            lines = self._path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if not _is_of(thread_id, line)]
            if len(kept) == len(lines):
                return
            scratch = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            scratch.write_bytes(b"".join(kept))
            scratch.chmod(0o600)
            reach("engine.lines.replacing")
            scratch.replace(self._path)
            reach("engine.lines.replaced")

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """Keep other processes of Treadle from changing the file meanwhile."""
        try:
            fd = self._lock()
            try:
                yield
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageFailed(f"cannot write {self._path}: {error.strerror}") from error

    def _lock(self) -> int:
        """The file, locked. Who holds it writes a line or two, unless it was stopped just then."""
        until = self._clock.monotonic() + _WAIT_SECONDS
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(self._path)):
                    return fd
            os.close(fd)
            if self._clock.monotonic() > until:
                raise StorageFailed(
                    f"another process has kept {self._path} locked for {_WAIT_SECONDS:.0f} s; "
                    "end it, or let it go on"
                )
            time.sleep(_POLL_SECONDS)


def _is_of(thread_id: str, raw: bytes) -> bool:
    if thread_id.encode() not in raw:
        return False
    try:
        return _lines.decode(raw).get("id") == thread_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
