"""Child processes that are started, streamed and stopped as whole trees.

Every child gets a session of its own, so that one signal reaches all it spawned. Stopping is TERM,
a grace period, then KILL. Double forks that left the process group are found by a marker in their
environment (`TREADLE_TREE`), which children inherit whether they want to or not. Knows nothing of
what the child does.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

TREE_MARK = "TREADLE_TREE"
"""Environment variable that names the tree a process belongs to."""


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

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the child's process group; nothing happens when it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, grace_seconds: float = 1.0) -> None:
        """End the whole tree: TERM, wait up to `grace_seconds`, then KILL; reaps the child.

        Idempotent, and also right after the child itself has ended: what it left behind goes too.
        """
        self.signal_group(signal.SIGTERM)
        stragglers = _marked(self._mark)
        for pid in stragglers:
            _kill(pid, signal.SIGTERM)
        if self.returncode is None or stragglers:
            deadline = asyncio.get_running_loop().time() + grace_seconds
            while asyncio.get_running_loop().time() < deadline:
                if self.returncode is not None and not _marked(self._mark):
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), 0.02)
                if self.returncode is not None:
                    await asyncio.sleep(0.01)
        self.signal_group(signal.SIGKILL)
        # A fork between listing and killing escapes one round, so look until none is left.
        for _ in range(20):
            left = _marked(self._mark)
            if not left:
                break
            for pid in left:
                _kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)
        await self._process.wait()


async def spawn(
    argv: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str],
    stdin: bool = False,
    merge_stderr: bool = False,
    limit: int = 1 << 20,
) -> ChildProcess:
    """Start `argv` in a session of its own with exactly `env` (plus the tree's mark).

    Args:
        argv: program and arguments; the program is looked up in the `PATH` of `env`.
        cwd: working folder, the caller's own when None.
        env: the whole environment of the child.
        stdin: pipe standard input; otherwise it reads end of file.
        merge_stderr: send standard error into standard output.
        limit: bytes that a stream reader buffers before it stops reading.

    Raises:
        SpawnError: program or folder missing, not executable, or the system refused.
    """
    mark = secrets.token_hex(8)
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env={**env, TREE_MARK: mark},
            stdin=pipe if stdin else asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT if merge_stderr else pipe,
            start_new_session=True,
            limit=limit,
        )
    except (OSError, ValueError) as error:
        raise SpawnError(str(error)) from error
    return ChildProcess(process, mark)


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _marked(mark: str) -> list[int]:
    """Living processes that carry `mark` in their environment (Linux; elsewhere none)."""
    needle = f"{TREE_MARK}={mark}".encode()
    found: list[int] = []
    try:
        entries = os.listdir("/proc")
    except OSError:
        return found
    for entry in entries:
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as environ:
                if needle not in environ.read():
                    continue
            with open(f"/proc/{entry}/stat", "rb") as stat:
                state = stat.read().rsplit(b") ", 1)[1][:1]
        except OSError:
            continue
        if state != b"Z":
            found.append(int(entry))
    return found
