"""One writer per thread across processes: a lease that the operating system ends with its holder.

The lease is a lock on `thread-writer-locks/<id>.lock`, held while the file is open, so a process
that dies by any means gives it up. The file tells who holds it, for the message the loser gets.
Not covered yet: a holder that is stopped (SIGSTOP) keeps its lease until it ends.
"""

import contextlib
import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from treadle.engine.store.local.rollout_files import private_folder
from treadle.engine.store.thread_store import StorageFailed, WriterConflict
from treadle.kit.clock import Clock, iso_millis

LOCKS = "thread-writer-locks"


class Holder(msgspec.Struct, kw_only=True):
    """Who writes a thread: process, machine, since when (RFC 3339), in which epoch."""

    pid: int
    host: str
    epoch: int
    since: str


class Lease:
    """The right to write one thread, until `release`; `epoch` grows with each holder."""

    def __init__(self, path: Path, fd: int, epoch: int) -> None:
        self._path = path
        self._fd: int | None = fd
        self.epoch = epoch

    def release(self) -> None:
        """Give the right up; idempotent."""
        if self._fd is None:
            return
        # Unlinked while still locked: who waits for the old file notices and takes a new one.
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._fd)
        self._fd = None


def acquire(home: Path, thread_id: str, clock: Clock) -> Lease:
    """Take the right to write a thread, or say who has it.

    Raises:
        WriterConflict: another holder is alive; the text names it.
        StorageFailed: the lock's folder cannot be written.
    """
    path = home / LOCKS / f"{thread_id}.lock"
    try:
        private_folder(path.parent)
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if _lock(fd) and _still_there(path, fd):
                break
            holder = _holder(fd)
            there = _still_there(path, fd)
            os.close(fd)
            if there:
                raise WriterConflict(_conflict(thread_id, holder))
        return _take(path, fd, clock)
    except OSError as error:
        raise StorageFailed(f"cannot lock thread {thread_id}: {error.strerror}") from error


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_there(path: Path, fd: int) -> bool:
    """Whether the open file is the one under that name, and not one that was unlinked since."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _take(path: Path, fd: int, clock: Clock) -> Lease:
    before = _holder(fd)
    # The file goes with a clean release, so the clock carries the count over such a gap.
    epoch = max(int(clock.now() * 1000), before.epoch + 1 if before else 0)
    holder = Holder(
        pid=os.getpid(), host=socket.gethostname(), epoch=epoch, since=iso_millis(clock.now())
    )
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(holder), 0)
    return Lease(path, fd, epoch)


def _holder(fd: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def _conflict(thread_id: str, holder: Holder | None) -> str:
    text = f"thread {thread_id} already has an active writer"
    if holder is None:
        return text
    facts: dict[str, Any] = msgspec.structs.asdict(holder)
    return text + " (pid {pid} on {host} since {since})".format_map(facts)
