"""Commands that a client runs itself, without a thread: one at a time here, a table per connection.

Owns output caps, time limits and what follow-ups find. Started through `kit`; a sandbox has planned
the start before, or it is plain. Knows nothing of the protocol.
"""

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

import msgspec

from treadle.domain.policy import SandboxPolicy
from treadle.engine.sandbox.launch_plan import LaunchPlan, SandboxUnavailable
from treadle.engine.services.errors import Refused
from treadle.kit import commands, processes, reaper

DEFAULT_CAP_BYTES = 1 << 20
DEFAULT_TIMEOUT_SECONDS = 10.0
DRAIN_SECONDS = 0.5
"""How long output may still come once the command itself ended."""
TIMED_OUT = 124
MAX_COMMANDS = 128

Stream = Literal["stdout", "stderr"]
OnOutput = Callable[[Stream, bytes, bool], Awaitable[None]]


class CommandFailed(Exception):
    """The command did not start; the text is the system's reason."""


class CommandHost(Protocol):
    """The machine's side: the server's folder and environment, and its sandbox."""

    def folder(self, cwd: str | None) -> str:
        """`cwd` as an absolute path, seen from the server's folder."""
        ...

    def environment(self, *, filtered: bool) -> dict[str, str]:
        """The server's environment; with `filtered` what commands may see of it."""
        ...

    def confine(
        self, argv: list[str], cwd: str, env: dict[str, str], policy: SandboxPolicy | None
    ) -> LaunchPlan:
        """How to start under `policy`, the configured one when None; may block.

        Raises:
            SandboxUnavailable: it cannot be enforced here.
        """
        ...


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and within which limits (None: none)."""

    argv: tuple[str, ...]
    make_plan: Callable[[], LaunchPlan]
    stream_stdin: bool
    stream_output: bool
    terminal_size: tuple[int, int] | None
    """Rows and columns; None for pipes."""
    timeout_seconds: float | None
    cap_bytes: int | None


class Output(msgspec.Struct):
    """One stream so far."""

    kept: bytearray = msgspec.field(default_factory=bytearray)
    seen_bytes: int = 0
    capped: bool = False

    @property
    def text(self) -> str:
        """What was kept, as text."""
        return self.kept.decode("utf-8", "replace")


class Command:
    """One command, from before its start to its end."""

    def __init__(self, order: Order, on_output: OnOutput) -> None:
        self._order = order
        self._on_output = on_output
        self._child: processes.ChildProcess | commands.RunningCommand | None = None
        self._stdin_closed = False
        self._timed_out = False
        self.started = asyncio.Event()
        self.stdout = Output()
        self.stderr = Output()
        self.drain_timed_out = False

    async def start(self) -> None:
        """Start it; raises CommandFailed."""
        try:
            plan = await asyncio.to_thread(self._order.make_plan)
            _check(self._order.argv[0], plan)
            # Tied to our life like every command: killed when we are (see `reaper`).
            marks = (plan.env.get(processes.TREE_MARK, ""), reaper.owner_mark())
            env = {**plan.env, processes.TREE_MARK: "/".join(mark for mark in marks if mark)}
            if self._order.terminal_size is None:
                self._child = await processes.spawn(
                    plan.argv, cwd=plan.cwd, env=env, stdin=self._order.stream_stdin
                )
            else:
                self._child = commands.start_command(
                    plan.argv,
                    cwd=plan.cwd,
                    env=plan.env,
                    on_output=lambda data: self._take_now("stdout", data),
                    terminal=True,
                    size=self._order.terminal_size,
                )
        except SandboxUnavailable as error:
            raise CommandFailed(str(error)) from error
        except processes.SpawnError as error:
            raise CommandFailed(_reason(error.__cause__, str(error))) from error
        except OSError as error:
            raise CommandFailed(_reason(error, str(error))) from error
        finally:
            self.started.set()

    async def finish(self) -> int:
        """Wait for the end within the time limit; the exit code. Stops the tree when cancelled."""
        child = self._child
        assert child is not None
        try:
            async with asyncio.TaskGroup() as group:
                readers = [
                    group.create_task(self._read(name, stream)) for name, stream in _streams(child)
                ]
                try:
                    async with asyncio.timeout(self._order.timeout_seconds):
                        await child.wait()
                except TimeoutError:
                    self._timed_out = True
                    await child.stop(0.0)
                if readers:
                    _, late = await asyncio.wait(readers, timeout=DRAIN_SECONDS)
                    self.drain_timed_out = bool(late)
                    for reader in late:
                        reader.cancel()
        finally:
            await child.stop(0.0)
        code = child.returncode or 0
        if self._timed_out:
            return TIMED_OUT
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        """Kill it now; `finish` sees to the rest of the tree."""
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    async def write(self, data: bytes, *, close: bool) -> None:
        """Type `data`, then end the input if asked to; raises Refused when it takes none."""
        child = self._child
        terminal = isinstance(child, commands.RunningCommand)
        if child is None or not (self._order.stream_stdin or terminal):
            raise Refused("stdin streaming is not enabled for this process")
        if self._stdin_closed:
            raise Refused("stdin is already closed")
        self._stdin_closed = close
        try:
            if isinstance(child, commands.RunningCommand):
                await child.write(data + (b"\x04" if close else b""))
                return
            child.stdin.write(data)
            async with asyncio.timeout(5.0):
                await child.stdin.drain()
            if close:
                child.stdin.close()
        except (OSError, TimeoutError) as error:
            raise Refused("stdin is already closed, or nobody reads it") from error

    def resize(self, rows: int, cols: int) -> None:
        """Tell the terminal its size; raises Refused for pipes."""
        if not isinstance(self._child, commands.RunningCommand):
            raise Refused("failed to resize PTY: process is not attached to a PTY")
        self._child.resize(rows, cols)

    async def _read(self, name: Stream, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(64 * 1024):
            told = self._take(name, data)
            if told is not None:
                await told

    def _take_now(self, name: Stream, data: bytes) -> None:
        told = self._take(name, data)
        if asyncio.iscoroutine(told):
            told.close()  # a terminal's output comes by callback, which cannot wait

    def _take(self, name: Stream, data: bytes) -> Awaitable[None] | None:
        output = self.stdout if name == "stdout" else self.stderr
        if output.capped:
            return None
        cap = self._order.cap_bytes
        if cap is not None and output.seen_bytes + len(data) >= cap:
            data = data[: cap - output.seen_bytes]
            output.capped = True
        output.seen_bytes += len(data)
        if self._order.stream_output:
            return self._on_output(name, data, output.capped)
        output.kept += data
        return None


class Commands:
    """The commands of one connection, by the names it gave them."""

    def __init__(self, unknown: str, duplicate: str) -> None:
        """The two texts end in the quoted name."""
        self._unknown = unknown
        self._duplicate = duplicate
        self._running: dict[str, Command] = {}
        self._ending: dict[Command, asyncio.Event] = {}

    def add(self, name: str | None, command: Command) -> None:
        """Take a command in before it starts; raises Refused when the name is taken."""
        if name is not None and name in self._running:
            raise Refused(f'{self._duplicate}: "{name}"')
        if len(self._ending) >= MAX_COMMANDS:
            raise Refused(f"a connection may run {MAX_COMMANDS} commands; end one first")
        if name is not None:
            self._running[name] = command
        self._ending[command] = asyncio.Event()

    def drop(self, name: str | None, command: Command) -> None:
        """The command ended, or never started."""
        if name is not None and self._running.get(name) is command:
            del self._running[name]
        self._ending.pop(command).set()

    async def find(self, name: str) -> Command:
        """The running command of that name, once started; raises Refused."""
        command = self._running.get(name)
        if command is None:
            raise Refused(f'{self._unknown} "{name}"')
        await command.started.wait()
        return command

    async def close(self) -> None:
        """Kill what runs, and wait a moment until it is gone."""
        ending = dict(self._ending)
        for command in ending:
            command.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                for ended in ending.values():
                    await ended.wait()


def merged(base: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    """An environment with changes: a text sets, None unsets."""
    env = {**base, **(changes or {})}
    return {name: value for name, value in env.items() if value is not None}


def _streams(
    child: processes.ChildProcess | commands.RunningCommand,
) -> list[tuple[Stream, asyncio.StreamReader]]:
    if isinstance(child, commands.RunningCommand):
        return []
    return [("stdout", child.stdout), ("stderr", child.stderr)]


def _check(program: str, plan: LaunchPlan) -> None:
    """Raise OSError like a plain start would, for a sandbox's launcher could only say less."""
    import shutil  # brings compression along, which starting the server need not wait for

    os.stat(plan.cwd)
    if "/" not in program and shutil.which(program, path=plan.env.get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _reason(cause: BaseException | None, otherwise: str) -> str:
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"{os.strerror(cause.errno)} (os error {cause.errno})"
    return otherwise
