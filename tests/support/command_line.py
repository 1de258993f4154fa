"""The `treadle` command as a process, for tests: start it, wait for its words, signal it, end it.

    async with started(home, "manager", "--json", "--port", "0") as manager:
        line = await manager.wait_line("listening")
        manager.signal(signal.SIGTERM)
        assert (await manager.finish()).code == 0

Every wait has the bound `WAIT_SECONDS`, and whatever still runs when a test ends is killed with all
that it started.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
WAIT_SECONDS = 40.0
"""Far beyond what any of it takes, for machines that do other work; reaching it is a failure."""


@dataclass(frozen=True)
class Finished:
    """How a command ended, and all it said."""

    code: int
    out: str
    err: str


@dataclass
class Stream:
    """Everything that came over one pipe so far; `grown` tells waiters of more."""

    text: str = ""
    is_over: bool = False
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read_all(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(1 << 16):
            await self._add(chunk.decode(errors="replace"), is_over=False)
        await self._add("", is_over=True)

    async def _add(self, text: str, *, is_over: bool) -> None:
        async with self.grown:
            self.text += text
            self.is_over = is_over
            self.grown.notify_all()

    async def wait_line(self, part: str) -> str:
        """The first line that contains `part`, once it is complete."""

        def found() -> str | None:
            complete = self.text[: self.text.rfind("\n") + 1]
            return next((line for line in complete.splitlines() if part in line), None)

        async with asyncio.timeout(WAIT_SECONDS), self.grown:
            await self.grown.wait_for(lambda: self.is_over or found() is not None)
        line = found()
        assert line is not None, f"the command ended without saying {part!r}:\n{self.text}"
        return line


class Running:
    """A command that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out = Stream()
        self.err = Stream()
        assert process.stdout is not None
        assert process.stderr is not None
        self._reading = [
            asyncio.create_task(self.out.read_all(process.stdout)),
            asyncio.create_task(self.err.read_all(process.stderr)),
        ]

    @property
    def pid(self) -> int:
        return self.process.pid

    async def wait_line(self, part: str) -> str:
        """A line of standard output that contains `part`."""
        return await self.out.wait_line(part)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def finish(self) -> Finished:
        """Wait for its end; whatever it left running may not hold the pipes open."""
        async with asyncio.timeout(WAIT_SECONDS):
            code = await self.process.wait()
            for task in self._reading:
                await task
        return Finished(code, self.out.text, self.err.text)

    async def kill(self) -> None:
        """End it and its descendants, however they are."""
        for pid in [*descendants(self.pid), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.process.wait()
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)


@dataclass(frozen=True)
class Home:
    """A home folder of its own and the environment that leads there."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder.parent),
            "PYTHONPATH": str(SOURCE),
            "TREADLE_HOME": str(self.folder),
            **self.variables,
        }

    def configure(self, provider_url: str) -> None:
        """Point the model provider to `provider_url`, with no retries of its own."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "config.toml").write_text(
            'model = "mock-model"\nmodel_provider = "mock"\napproval_policy = "never"\n'
            'sandbox_mode = "danger-full-access"\n\n[model_providers.mock]\nname = "Mock"\n'
            f'base_url = "{provider_url}"\nwire_api = "responses"\n'
            "request_max_retries = 0\nstream_max_retries = 0\n"
        )


async def start(
    home: Home, *arguments: str, cwd: Path | None = None, stdin: int = asyncio.subprocess.DEVNULL
) -> Running:
    """Start `treadle ARGUMENTS`; the caller ends it. `stdin` as for `subprocess`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "treadle.cli.main",
        *arguments,
        cwd=cwd,
        env=home.environment,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return Running(process)


@contextlib.asynccontextmanager
async def started(
    home: Home, *arguments: str, cwd: Path | None = None, stdin: int = asyncio.subprocess.DEVNULL
) -> AsyncGenerator[Running]:
    """`treadle ARGUMENTS`, killed at the end if it still runs. `stdin` as for `subprocess`."""
    command = await start(home, *arguments, cwd=cwd, stdin=stdin)
    try:
        yield command
    finally:
        await command.kill()


async def run(home: Home, *arguments: str, cwd: Path | None = None) -> Finished:
    """`treadle ARGUMENTS` to its end."""
    async with started(home, *arguments, cwd=cwd) as command:
        return await command.finish()


def descendants(pid: int) -> list[int]:
    """Living processes below `pid`, children before grandchildren."""
    parents: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{entry}/stat").read_text()
            parents.setdefault(int(stat.rsplit(") ", 1)[1].split()[1]), []).append(int(entry))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


def named_descendants(pid: int, word: str) -> list[int]:
    """Processes below `pid` whose command line has `word` as an argument."""
    return [each for each in descendants(pid) if word in _arguments(each)]


def descendant(pid: int, word: str) -> int:
    """The one process below `pid` whose command line has `word` as an argument."""
    named = named_descendants(pid, word)
    assert len(named) == 1, f"{len(named)} processes {word!r} below {pid}"
    return named[0]


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


async def wait_gone(pid: int) -> None:
    """Return once the process `pid` has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
