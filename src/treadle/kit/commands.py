"""A command whose output is collected as it comes, on a pipe or on a terminal.

Differs from `processes.ChildProcess` in what it waits for: the command itself, not the end of its
output, since whatever it leaves in the background keeps that open. Output of both streams arrives
in one order. The tree is tied to us: it is killed when we are (see `reaper`). Knows nothing of
shells, sandboxes or who asked.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence

from treadle.kit import processes, reaper

_READ_BYTES = 64 * 1024
_FREE_BYTES = 4 * 1024 * 1024
"""Output up to here is read as fast as it comes; a command that floods us further is slowed down,
or reading it would leave the event loop no time for anybody else."""
_PAUSE_SECONDS = 0.004


class RunningCommand:
    """A started command; make it with `start_command`."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        mark: str,
        output_fd: int,
        input_fd: int | None,
        on_output: Callable[[bytes], None],
    ) -> None:
        """Watch `process` from the running event loop."""
        self._process = process
        self._mark = mark
        self._output_fd = output_fd
        self._input_fd = input_fd
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._silent = asyncio.Event()
        self._read_bytes = 0
        self._resume: asyncio.TimerHandle | None = None
        os.set_blocking(output_fd, False)
        self._loop.add_reader(output_fd, self._readable)
        self._pidfd: int | None = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._child_ended)

    @property
    def pid(self) -> int:
        """Process id, which is also the process group and session."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until the command ended and what it had written by then was read."""
        await self._ended.wait()
        assert self._process.returncode is not None
        return self._process.returncode

    async def write(self, data: bytes, seconds: float = 5.0) -> None:
        """Type `data`; gives up after `seconds` when nobody reads.

        Raises:
            BrokenPipeError: the command has no input, or ended.
            TimeoutError: it did not take all of it in time.
        """
        if self._input_fd is None or self._ended.is_set():
            raise BrokenPipeError("the command takes no input")
        async with asyncio.timeout(seconds):
            while data:
                try:
                    data = data[os.write(self._input_fd, data[:4096]) :]
                except BlockingIOError:
                    await asyncio.sleep(0.01)
                except OSError as error:
                    raise BrokenPipeError("the command takes no input") from error

    def resize(self, rows: int, cols: int) -> None:
        """Tell a command's terminal its size; nothing happens once the terminal is gone."""
        if self._input_fd is not None:
            size = struct.pack("HHHH", rows, cols, 0, 0)
            fcntl.ioctl(self._input_fd, termios.TIOCSWINSZ, size)

    async def stop(self, grace_seconds: float = 0.5) -> None:
        """End the whole tree: TERM, a grace period, KILL. Idempotent."""
        await processes.stop_tree(self.pid, self._mark, self._ended, grace_seconds)
        await self._ended.wait()

    def _readable(self) -> None:
        data = self._take()
        if data is None:
            return
        if not data:
            self._stop_reading()
            return
        self._read_bytes += len(data)
        self._on_output(data)
        if self._read_bytes > _FREE_BYTES and not self._silent.is_set():
            self._loop.remove_reader(self._output_fd)
            self._resume = self._loop.call_later(_PAUSE_SECONDS, self._resume_reading)

    def _resume_reading(self) -> None:
        self._resume = None
        if not self._silent.is_set():
            self._loop.add_reader(self._output_fd, self._readable)

    def _take(self) -> bytes | None:
        """What is there to read: empty at the end, None when there is nothing now."""
        try:
            return os.read(self._output_fd, _READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal whose other side closed says so like this
                return b""
            raise

    def _stop_reading(self) -> None:
        if self._silent.is_set():
            return
        self._silent.set()
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._output_fd)
        if self._input_fd is not None and self._input_fd != self._output_fd:
            os.close(self._input_fd)
        os.close(self._output_fd)
        self._input_fd = None

    def _child_ended(self) -> None:
        if self._pidfd is None or self._process.poll() is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        self._drain()
        self._stop_reading()
        self._ended.set()

    def _drain(self) -> None:
        """Read what the command had written when it ended; bounded, for others may write on."""
        for _ in range(64):
            data = None if self._silent.is_set() else self._take()
            if not data:
                return
            self._on_output(data)


def start_command(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    on_output: Callable[[bytes], None],
    terminal: bool = False,
    size: tuple[int, int] = (24, 80),
) -> RunningCommand:
    """Start `argv` in a session of its own, tied to our life.

    Args:
        argv: program and arguments; looked up in the `PATH` of `env`.
        cwd: its folder.
        env: its whole environment (the tree's mark is added).
        on_output: called on the event loop with each piece of output, both streams merged.
        terminal: give it a terminal for all three streams; otherwise input is empty.
        size: rows and columns of the terminal.

    Raises:
        SpawnError: program or folder missing, or the system refused; the cause is the OSError.
    """
    mark = processes.tree_mark(env, reaper.owner_mark())
    ours, theirs = os.openpty() if terminal else os.pipe()
    try:
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        with processes.begotten(mark):
            process = subprocess.Popen(
                [*argv],
                cwd=cwd,
                env={**env, processes.TREE_MARK: mark},
                stdin=theirs if terminal else subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                # Runs between fork and exec, where little is safe: one system call.
                preexec_fn=_adopt_terminal if terminal else None,  # noqa: PLW1509
            )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        os.close(ours)
        raise processes.SpawnError(str(error)) from error
    finally:
        os.close(theirs)
    try:
        return RunningCommand(process, mark, ours, ours if terminal else None, on_output)
    except OSError as error:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise processes.SpawnError(str(error)) from error


def _adopt_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
