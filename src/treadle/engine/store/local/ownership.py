"""One writer per thread across processes: a lease that ends with its holder, or with its silence.

The lease is a lock on `thread-writer-locks/<id>.lock`, held while the file is open, so a process
that dies by any means gives it up. A holder renews its lease; one that is silent for too long (it
was stopped, or hangs) may be replaced: the new holder puts another file in the lock's place, which
the old one notices before it writes and before it acknowledges. The epoch grows with each holder.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

import msgspec

from treadle.engine.store.local.rollout_files import private_folder
from treadle.engine.store.thread_store import StorageFailed, WriterConflict
from treadle.kit.clock import Clock, iso_millis

LOCKS = "thread-writer-locks"
LEASE_SECONDS = 15.0
"""How long a holder may be silent before another process may take its thread."""
_GATE = ".treadle-takeover.lock"
_GATE_SECONDS = 5.0
_POLL_SECONDS = 0.005


class Holder(msgspec.Struct, kw_only=True):
    """Who writes a thread: process, machine, since when (RFC 3339), in which epoch."""

    pid: int
    host: str
    epoch: int
    since: str


class Lease:
    """The right to write one thread, until `release` or until it is taken away.

    `epoch` grows with each holder. `taken_over` says that another process may still believe that
    it has the thread: what it holds open must not be what this holder writes.
    """

    def __init__(self, path: Path, fd: int, epoch: int, *, taken_over: bool = False) -> None:
        self._path = path
        self._fd: int | None = fd
        self.epoch = epoch
        self.taken_over = taken_over

    def check(self) -> None:
        """Make sure that nobody took the thread away; raises WriterConflict."""
        if self._fd is None or not _still_there(self._path, self._fd):
            thread_id = self._path.stem
            raise WriterConflict(
                f"thread {thread_id} was taken over by another process, because this one was "
                "silent for too long or by request; resume it to go on"
            )

    def renew(self) -> None:
        """Show that the holder is alive."""
        if self._fd is not None:
            os.utime(self._fd)

    def release(self) -> None:
        """Give the right up; idempotent."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        # Unlinked while still locked: who waits for the old file notices and takes a new one.
        with contextlib.suppress(OSError, StorageFailed), _gate(self._path.parent):
            if _still_there(self._path, fd):
                self._path.unlink()
        os.close(fd)


def acquire(
    home: Path,
    thread_id: str,
    clock: Clock,
    *,
    lease_seconds: float = LEASE_SECONDS,
    force: bool = False,
) -> Lease:
    """Take the right to write a thread, or say who has it. Waits only for other takeovers.

    Args:
        home: the folder that holds the locks.
        thread_id: which thread.
        clock: tells how long a holder has been silent.
        lease_seconds: how long it may be.
        force: take the thread from a holder that is alive and well, too.

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
                return _take(path, fd, clock, _holder(fd))
            holder, silent = _holder(fd), clock.now() - os.fstat(fd).st_mtime
            there = _still_there(path, fd)
            same = os.fstat(fd)
            os.close(fd)
            if not there:
                continue
            if not _replaceable(holder, silent, lease_seconds, force=force):
                raise WriterConflict(_conflict(thread_id, holder, silent, lease_seconds))
            lease = _replace(path, same, clock, holder)
            if lease is not None:
                return lease
    except OSError as error:
        raise StorageFailed(f"cannot lock thread {thread_id}: {error.strerror}") from error


def _replaceable(holder: Holder | None, silent: float, limit: float, *, force: bool) -> bool:
    """Whether a live lock may be taken: only one of ours, whose holder heeds that, on this host."""
    if holder is None or holder.host != socket.gethostname():
        return False
    return force or silent > limit


def _replace(path: Path, seen: os.stat_result, clock: Clock, before: Holder | None) -> Lease | None:
    """Put a lock of ours in the place of the one that was seen; None when it is another by now."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with _gate(path.parent):
        now = os.stat(path)
        if not os.path.samestat(now, seen) or now.st_mtime_ns != seen.st_mtime_ns:
            return None
        fd = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        _lock(fd)
        lease = _take(path, fd, clock, before, taken_over=True)
        scratch.replace(path)
        return lease


@contextlib.contextmanager
def _gate(folder: Path) -> Generator[None]:
    """One takeover or release at a time; they take microseconds, unless one is stopped in there."""
    fd = os.open(folder / _GATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(int(_GATE_SECONDS / _POLL_SECONDS)):
            if _lock(fd):
                break
            time.sleep(_POLL_SECONDS)
        else:
            raise StorageFailed(
                f"another process has kept {folder / _GATE} locked for {_GATE_SECONDS:.0f} s; "
                "end it, or let it go on"
            )
        yield
    finally:
        os.close(fd)


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


def _take(
    path: Path, fd: int, clock: Clock, before: Holder | None, *, taken_over: bool = False
) -> Lease:
    # The file goes with a clean release, so the clock carries the count over such a gap.
    epoch = max(int(clock.now() * 1000), before.epoch + 1 if before else 0)
    holder = Holder(
        pid=os.getpid(), host=socket.gethostname(), epoch=epoch, since=iso_millis(clock.now())
    )
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(holder), 0)
    return Lease(path, fd, epoch, taken_over=taken_over)


def _holder(fd: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def _conflict(thread_id: str, holder: Holder | None, silent: float, limit: float) -> str:
    text = f"thread {thread_id} already has an active writer"
    if holder is None:
        return text
    return (
        f"{text} (pid {holder.pid} on {holder.host} since {holder.since}, "
        f"last heard of {max(0.0, silent):.0f} s ago); it can be taken over when that has been "
        f"silent for {limit:.0f} s, or at once with `treadle threads free {thread_id}`"
    )
