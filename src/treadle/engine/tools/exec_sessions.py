"""Commands of agents that run: each one item, some of them past the call that started them.

Owns the running commands and their items: an item starts with its command and completes exactly
once when that has ended, whoever is still interested. Bounds their number. How a model asks for
commands and what it is told are the business of `exec`.
"""

import asyncio
import codecs
import itertools
import logging
import os

import msgspec

from treadle.domain.items import CommandExecution
from treadle.engine.sandbox.launch_plan import LaunchPlan
from treadle.engine.tools.tool import Reporter
from treadle.engine.tools.truncate import OutputBuffer
from treadle.kit.clock import Clock
from treadle.kit.commands import RunningCommand, start_command
from treadle.kit.deadlines import finish
from treadle.kit.tasks import TaskScope

logger = logging.getLogger(__name__)

ITEM_OUTPUT_CHARS = 1 << 20
"""What an item keeps of a command's output: half from the beginning, half from the end."""
CALL_OUTPUT_CHARS = 1 << 17
"""What one call may keep for the model: more than twice the largest token budget."""
STREAMED_CHARS = 4 << 20
"""Output past this is not streamed to watchers any more; the item has the end of it."""
STOP_SECONDS = 3.0
"""Time to end a command's tree: an interrupt has five in all."""


class Launch(msgspec.Struct, frozen=True):
    """A command about to start."""

    plan: LaunchPlan
    item: CommandExecution
    """As it will be shown: id, display command, folder, actions and source."""
    thread_id: str
    turn_id: str
    terminal: bool
    announced: bool = False
    """Whether the item was started already, before the command was permitted."""
    notes: tuple[str, ...] = ()
    """What the model is told besides the output of the call that starts it."""


class ExecSession:
    """One running command with its item."""

    def __init__(self, launch: Launch, reporter: Reporter, clock: Clock, number: int) -> None:
        """Describe the command; `start` starts it."""
        self.number = number
        self.launch = launch
        self.item = msgspec.structs.replace(launch.item, process_id=str(number))
        self.ended = asyncio.Event()
        """Set once the item is completed."""
        self.kept = False
        """Whether it outlived the call that started it."""
        self.exit_code: int | None = None
        self._reporter = reporter
        self._clock = clock
        self._started = clock.monotonic()
        self.last_used = self._started
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._whole = OutputBuffer(ITEM_OUTPUT_CHARS)
        self._unread = OutputBuffer(CALL_OUTPUT_CHARS)
        self._command: RunningCommand | None = None
        self._stop_code: int | None = None

    @property
    def pid(self) -> int | None:
        """The operating system's number of its first process, once it runs."""
        return self._command.pid if self._command is not None else None

    def start(self) -> None:
        """Start the command and report its item, unless that was done before.

        Raises:
            SpawnError: it could not be started; nothing was reported.
        """
        plan = self.launch.plan
        self._command = start_command(
            plan.argv,
            cwd=plan.cwd,
            env=plan.env,
            on_output=self._heard,
            terminal=self.launch.terminal,
        )
        if not self.launch.announced:
            self._reporter.started(self.item)

    def _heard(self, data: bytes) -> None:
        self._say(self._decoder.decode(data))

    def _say(self, text: str) -> None:
        if not text or self.ended.is_set():
            return
        self._whole.push(text)
        self._unread.push(text)
        if self._whole.total_chars <= STREAMED_CHARS:
            self._reporter.output(self.item.id, text)

    def take_output(self) -> OutputBuffer:
        """What was said since the last call of this."""
        taken, self._unread = self._unread, OutputBuffer(CALL_OUTPUT_CHARS)
        return taken

    async def type_in(self, text: str) -> None:
        """Write to the command's terminal; raises BrokenPipeError or TimeoutError."""
        assert self._command is not None
        await self._command.write(text.encode("utf-8", "replace"))

    async def watch(self) -> None:
        """Wait for the command to end, then complete its item."""
        assert self._command is not None
        code = await self._command.wait()
        self._complete(code)

    async def stop(self, exit_code: int = -1) -> None:
        """End the command's whole tree and complete its item with `exit_code`; idempotent."""
        self._stop_code = exit_code
        if self._command is not None:
            await finish(self._command.stop(), STOP_SECONDS, f"stop of command {self.number}")
        self._complete(exit_code)

    def _complete(self, code: int) -> None:
        if self.ended.is_set():
            return
        self._say(self._decoder.decode(b"", final=True))
        ended_by = 128 - code if code < 0 else code  # as shells report a signal
        self.exit_code = ended_by if self._stop_code is None else self._stop_code
        self.item = msgspec.structs.replace(
            self.item,
            status="completed" if self.exit_code == 0 else "failed",
            aggregated_output=self._whole.text(),
            exit_code=self.exit_code,
            duration_ms=round((self._clock.monotonic() - self._started) * 1000),
        )
        self.ended.set()
        self._reporter.completed(self.item)


class ExecSessions:
    """All running commands of a server's threads."""

    def __init__(self, limit: int = 64) -> None:
        """Keep at most `limit` commands."""
        self._limit = limit
        self._scope = TaskScope("commands")
        self._sessions: dict[int, ExecSession] = {}
        self._numbers = itertools.count(1_000 + int.from_bytes(os.urandom(2)))

    async def open(self, launch: Launch, reporter: Reporter, clock: Clock) -> ExecSession:
        """Start a command; when there are too many, the one unused for longest goes.

        Raises:
            SpawnError: it could not be started.
        """
        while len(self._sessions) >= self._limit:
            await self._evict()
        session = ExecSession(launch, reporter, clock, next(self._numbers))
        session.start()
        self._sessions[session.number] = session
        self._scope.start(session.watch(), f"command {session.number}")
        return session

    async def _evict(self) -> None:
        ended = [entry for entry in self._sessions.values() if entry.ended.is_set()]
        oldest = min(ended or self._sessions.values(), key=lambda entry: entry.last_used)
        self._sessions.pop(oldest.number, None)
        if not oldest.ended.is_set():
            logger.warning("too many commands: ending %s", oldest.number)
            await oldest.stop()

    def get(self, number: int, thread_id: str) -> ExecSession | None:
        """The command of that number, if it belongs to the thread and was not forgotten."""
        session = self._sessions.get(number)
        return session if session and session.launch.thread_id == thread_id else None

    def forget(self, session: ExecSession) -> None:
        """Its end was told to the model."""
        self._sessions.pop(session.number, None)

    @property
    def busy(self) -> bool:
        """Whether a command runs."""
        return any(not entry.ended.is_set() for entry in self._sessions.values())

    def background(self, thread_id: str) -> list[ExecSession]:
        """Running commands of a thread that outlived their call, oldest first."""
        return [entry for entry in self._of(thread_id) if entry.kept and not entry.ended.is_set()]

    def _of(self, thread_id: str) -> list[ExecSession]:
        return [e for e in self._sessions.values() if e.launch.thread_id == thread_id]

    async def end_thread(self, thread_id: str) -> None:
        """Stop all commands of a thread."""
        await self._stop(self._of(thread_id))

    async def end_one(self, thread_id: str, number: int) -> bool:
        """Stop one command of a thread; False when there is none of that number."""
        session = self.get(number, thread_id)
        if session is None or session.ended.is_set():
            return False
        await self._stop([session])
        return True

    async def close(self) -> None:
        """Stop all commands, at the end of the server."""
        await self._stop(list(self._sessions.values()))
        await self._scope.close()

    async def _stop(self, sessions: list[ExecSession]) -> None:
        async with asyncio.TaskGroup() as group:
            for session in sessions:
                self._sessions.pop(session.number, None)
                if not session.ended.is_set():
                    group.create_task(session.stop(), name=f"stop command {session.number}")
