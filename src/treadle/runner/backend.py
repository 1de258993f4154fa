"""An app-server as a child process: requests out, answers and notifications in, stopped as a tree.

Any server that speaks the protocol over stdio serves: Treadle's own, codex, or the scripted fake.
Lines are bounded, standard error is drained and only its end kept, and a reader that nobody listens
to stops reading, so that nothing here grows without bound. Knows the envelope of messages only;
what they mean is `drive`'s business.
"""

import asyncio
import contextlib
import json
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from treadle.kit import reaper
from treadle.kit.fault_points import reach
from treadle.kit.processes import ChildProcess, SpawnError, spawn
from treadle.kit.queues import Closed, Mailbox
from treadle.kit.tasks import TaskScope

Json = dict[str, Any]

LINE_LIMIT_BYTES = 64 << 20
READ_BYTES = 1 << 18
STDERR_KEPT_BYTES = 4096
INBOX_BOUND = 2048
EXIT_SECONDS = 1.0
EXCERPT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Notification:
    """Something the backend says."""

    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """Something the backend asks."""

    id: int | str
    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request of ours: a result, or an error object."""

    id: int
    result: Any
    error: Json | None


@dataclass(frozen=True, slots=True)
class Garbage:
    """The backend broke the protocol; nothing after this can be trusted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The backend is gone."""

    returncode: int | None
    stderr: str

    @property
    def reason(self) -> str:
        """What happened, in a sentence."""
        how = "closed its output" if self.returncode is None else f"exited with {self.returncode}"
        tail = f": {self.stderr.strip()}" if self.stderr.strip() else ""
        return f"The backend {how}{tail}"


Incoming = Notification | ServerRequest | Reply | Garbage | Exited


class BackendGone(Exception):
    """The backend cannot be written to any more."""


class Backend:
    """A running backend; `start_backend` makes one, `stop` ends its whole tree."""

    def __init__(self, child: ChildProcess) -> None:
        """Serve a child whose three streams are piped."""
        self._child = child
        self._inbox: Mailbox[Incoming] = Mailbox(INBOX_BOUND)
        self._room = asyncio.Event()
        self._stderr: deque[bytes] = deque()
        self._next_id = 0
        self._tasks = TaskScope("backend")
        self._drained = self._tasks.start(self._drain_stderr(), "stderr")
        self._tasks.start(self._read(), "stdout")
        self.ended = False

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def send(self, method: str, params: Json) -> int:
        """Send a request; its `Reply` comes through `receive` under the id returned.

        Raises:
            BackendGone: the backend has ended.
        """
        self._next_id += 1
        self._write({"method": method, "id": self._next_id, "params": params})
        return self._next_id

    def notify(self, method: str) -> None:
        """Send a notification; raises BackendGone."""
        self._write({"method": method})

    def respond(self, request: ServerRequest, answer: Json) -> None:
        """Answer with `{"result": ...}` or `{"error": ...}`; raises BackendGone."""
        self._write({"id": request.id, **answer})

    async def receive(self) -> Incoming:
        """Next message, in the order the backend wrote them; after `Exited` nothing comes."""
        message = await self._inbox.get()
        self._room.set()
        return message

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child's process group."""
        self._child.signal_group(number)

    async def stop(self, grace_seconds: float = 2.0) -> None:
        """End the child with everything it started."""
        self.ended = True
        with contextlib.suppress(OSError, RuntimeError):
            self._child.stdin.close()
        await self._child.stop(grace_seconds)
        self._inbox.close()
        self._room.set()
        await self._tasks.close()

    def _write(self, message: Json) -> None:
        stdin = self._child.stdin
        if self.ended or stdin.is_closing():
            raise BackendGone("The backend has ended.")
        stdin.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def _read(self) -> None:
        line = bytearray()
        with contextlib.suppress(Closed):
            while chunk := await self._child.stdout.read(READ_BYTES):
                *whole, rest = chunk.split(b"\n")
                for piece in whole:
                    line += piece
                    await self._take(bytes(line))
                    line.clear()
                line += rest
                if line:
                    reach("runner.backend.part-read")
                if len(line) > LINE_LIMIT_BYTES:
                    limit = LINE_LIMIT_BYTES >> 20
                    await self._put(Garbage(f"The backend wrote a line of more than {limit} MiB."))
                    return
            await self._put(await self._exited())

    async def _exited(self) -> Exited:
        self.ended = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                await self._child.wait()
                await asyncio.wait({self._drained}, timeout=EXIT_SECONDS)
        tail = b"".join(self._stderr)[-STDERR_KEPT_BYTES:]
        return Exited(self._child.returncode, tail.decode(errors="replace"))

    async def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        incoming = _incoming(message)
        if incoming is None:
            excerpt = line[:EXCERPT_CHARS].decode(errors="replace")
            incoming = Garbage(f"The backend wrote a line that is no message: {excerpt}")
        reach("runner.backend.line-read")
        await self._put(incoming)

    async def _put(self, message: Incoming) -> None:
        while len(self._inbox) >= INBOX_BOUND:
            self._room.clear()
            await self._room.wait()
        self._inbox.put(message)

    async def _drain_stderr(self) -> None:
        kept = 0
        while chunk := await self._child.stderr.read(READ_BYTES):
            self._stderr.append(chunk[-STDERR_KEPT_BYTES:])
            kept += len(self._stderr[-1])
            while kept - len(self._stderr[0]) >= STDERR_KEPT_BYTES:
                kept -= len(self._stderr.popleft())


async def start_backend(argv: Sequence[str], *, cwd: str | None, env: Mapping[str, str]) -> Backend:
    """Start a backend, which does not outlive us; raises kit.processes.SpawnError."""
    # Closed pipes end an orderly backend when we are killed; the mark ends any, and its tree.
    return Backend(await spawn(argv, cwd=cwd, env=reaper.tied(env), stdin=True))


def members(value: Any) -> Json:
    """The members of a JSON object; none when it is anything else."""
    return cast("Json", value) if isinstance(value, dict) else {}


def _incoming(message: Any) -> Incoming | None:
    fields = members(message)
    method, message_id = fields.get("method"), fields.get("id")
    params = members(fields.get("params"))
    if isinstance(method, str):
        if isinstance(message_id, int | str):
            return ServerRequest(message_id, method, params)
        return Notification(method, params)
    error = members(fields.get("error"))
    if isinstance(message_id, int) and error:
        return Reply(message_id, None, error)
    if isinstance(message_id, int) and "result" in fields:
        return Reply(message_id, fields["result"], None)
    return None


__all__ = [
    "Backend",
    "BackendGone",
    "Exited",
    "Garbage",
    "Incoming",
    "Notification",
    "Reply",
    "ServerRequest",
    "SpawnError",
    "members",
    "start_backend",
]
