"""Child processes that are started, streamed and stopped as whole trees.

Every child gets a session of its own, so that one signal reaches all it spawned. Stopping is TERM,
a grace period, then KILL. Double forks that left the process group are found by two marks that
children inherit: one in their environment (`TREADLE_TREE`), and for those that start with an empty
one a limit that no other program sets. Knows nothing of what the child does.
"""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

TREE_MARK = "TREADLE_TREE"
"""Environment variable that names the tree a process belongs to."""


_LIMIT = resource.RLIMIT_RTTIME
"""Time that a process of real-time priority may run at a stretch, in microseconds: set to tens of
thousands of years it means nothing, and its lower bits name the tree."""


class SpawnError(Exception):
    """The program could not be started; the cause is the operating system's error."""


class ChildProcess:
    """A running child with its own session; create it with `spawn`."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        """Wrap a process started with `start_new_session` and `mark` in its environment."""
        self._process = process
        self._mark = mark

    @property
    def pid(self) -> int:
        """Process id of the child, which is also its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; negative for a signal; None while it runs."""
        return self._process.returncode

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """The child's standard input (must have been piped)."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        """The child's standard output (must have been piped)."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader:
        """The child's standard error (must have been piped apart from stdout)."""
        assert self._process.stderr is not None
        return self._process.stderr

    async def wait(self) -> int:
        """Wait for the child itself (not its tree) to end; its exit status."""
        return await self._process.wait()

    async def exited(self) -> None:
        """Return once the child itself has ended, though what it started holds its pipes open.

        `wait` returns only when they are closed.
        """
        if self.returncode is not None:
            return
        try:
            handle = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # no such call here, or reaped a moment ago
            await self.wait()
            return
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(handle, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the child's process group; nothing happens when it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, grace_seconds: float = 1.0) -> None:
        """End the whole tree: TERM, wait up to `grace_seconds`, then KILL; reaps the child.

        Idempotent, and also right after the child itself has ended: what it left behind goes too.
        """
        ended = asyncio.Event()
        waiting = asyncio.get_running_loop().create_task(self._wait_into(ended))
        try:
            await stop_tree(self.pid, self._mark, ended, grace_seconds)
        finally:
            waiting.cancel()
        await self._process.wait()

    async def _wait_into(self, ended: asyncio.Event) -> None:
        await self._process.wait()
        ended.set()


async def stop_tree(pid: int, mark: str, ended: asyncio.Event, grace_seconds: float) -> None:
    """End the process group of `pid` and all that carry `mark`: TERM, grace, KILL.

    Args:
        pid: leader of the tree, also its process group. It is signalled only until `ended`: a
            number that was reaped may belong to somebody else.
        mark: value of `TREE_MARK` that its members carry.
        ended: set by whoever reaps the leader.
        grace_seconds: time between TERM and KILL.
    """
    _signal_tree(pid, mark, ended, signal.SIGTERM)
    deadline = asyncio.get_running_loop().time() + grace_seconds
    while asyncio.get_running_loop().time() < deadline:
        if ended.is_set() and not _marked(mark):
            return
        if ended.is_set():
            await asyncio.sleep(0.01)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.02)
    # A fork between listing and killing escapes one round, so look until none is left.
    for _ in range(100):
        if not _signal_tree(pid, mark, ended, signal.SIGKILL) and ended.is_set():
            return
        await asyncio.sleep(0.005)


def _signal_tree(pid: int, mark: str, ended: asyncio.Event, number: signal.Signals) -> bool:
    """Signal all members; whether there were any besides the leader."""
    if not ended.is_set():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
    members = _marked(mark)
    for member in members:
        _kill(member, number)
    return bool(members)


def tree_mark(env: Mapping[str, str], owner: str = "") -> str:
    """A fresh mark for one tree, which contains the marks of the trees it grows in.

    Args:
        env: the environment the child gets; a mark in it is the enclosing tree's.
        owner: name of the process whose end the tree must not survive (see `reaper`).
    """
    parts = (env.get(TREE_MARK, ""), owner, os.urandom(8).hex())
    return "/".join(part for part in parts if part)


def limit_mark(mark: str) -> int:
    """The value of the limit that says the same as `mark` does in the environment.

    From the top: a bit that makes it long, 28 bits of the enclosing mark (the owner's, where it has
    one), 32 bits of its own.
    """
    *_, owner, own = ("", *mark.split("/"))
    return 1 << 61 | owner_bits(owner) << 32 | int(own[:8], 16)


def owner_bits(owner: str) -> int:
    """The 28 bits of a limit that name an owner."""
    return int(owner[:7] or "0", 16)


@contextlib.contextmanager
def begotten(mark: str) -> Generator[None]:
    """Children made meanwhile carry the limit of `mark` from their first moment.

    The limit is ours for as long: do nothing inside but start the one child.
    """
    before = resource.getrlimit(_LIMIT)
    _set_limit(os.getpid(), (limit_mark(mark), before[1]))
    try:
        yield
    finally:
        _set_limit(os.getpid(), before)


def _set_limit(pid: int, limits: tuple[int, int]) -> None:
    """Where the system has no such limit, or a lower one, there is one mark only."""
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, _LIMIT, limits)


async def spawn(
    argv: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str],
    stdin: bool = False,
    share_stderr: bool = False,
    limit: int = 1 << 20,
) -> ChildProcess:
    """Start `argv` in a session of its own with exactly `env` (plus the tree's mark).

    Args:
        argv: program and arguments; the program is looked up in the `PATH` of `env`.
        cwd: working folder, the caller's own when None.
        env: the whole environment of the child.
        stdin: pipe standard input; otherwise it reads end of file.
        share_stderr: let it write to our own standard error; otherwise that is piped.
        limit: bytes that a stream reader buffers before it stops reading.

    Raises:
        SpawnError: program or folder missing, not executable, or the system refused.
    """
    mark = tree_mark(env)
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env={**env, TREE_MARK: mark},
            stdin=pipe if stdin else asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=None if share_stderr else pipe,
            start_new_session=True,
            limit=limit,
        )
    except (OSError, ValueError) as error:
        raise SpawnError(str(error)) from error
    # Its start takes several steps of the loop, others may start meanwhile: marked right after it.
    _set_limit(process.pid, (limit_mark(mark), resource.getrlimit(_LIMIT)[1]))
    return ChildProcess(process, mark)


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _marked(mark: str) -> list[int]:
    """Living processes that carry `mark` in either way (Linux; elsewhere none)."""
    needle = f"{TREE_MARK}={mark}".encode()
    limit = b"%-26s%-21d" % (b"Max realtime timeout", limit_mark(mark))
    try:
        entries = os.listdir("/proc")
    except OSError:
        return []
    return [int(e) for e in entries if e.isdigit() and _carries(e, needle, limit)]


def _carries(entry: str, needle: bytes, limit: bytes) -> bool:
    try:
        with open(f"/proc/{entry}/limits", "rb") as limits:
            marked = limit in limits.read()
        if not marked:
            with open(f"/proc/{entry}/environ", "rb") as environ:
                marked = needle in environ.read()
        if not marked:
            return False
        with open(f"/proc/{entry}/stat", "rb") as stat:
            return stat.read().rsplit(b") ", 1)[1][:1] != b"Z"
    except OSError:
        return False
