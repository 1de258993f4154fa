"""An app-server under measurement: a child process, a client on its streams, its use of resources.

What it costs is read from the kernel's books about the process, not from what it says of itself.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from treadle.kit.processes import ChildProcess, spawn
from treadle.kit.tasks import TaskScope
from treadle.wire.client.client import Client, ConnectionLost
from treadle.wire.protocol.initialize import Capabilities
from treadle.wire.transport.channel import ChannelClosed
from treadle.wire.transport.framing import LineSplitter

WAIT_SECONDS = 120.0
LINE_BYTES = 64 << 20
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
UNSEEN = ["item/agentMessage/delta", "thread/tokenUsage/updated", "thread/status/changed"]

_CONFIG = """\
model = "bench-model"
approval_policy = "never"
sandbox_mode = "danger-full-access"
model_provider = "bench"

[model_providers.bench]
name = "Bench"
base_url = "{url}"
wire_api = "responses"
"""


class _Streams:
    """The standard streams of a child as a channel."""

    def __init__(self, child: ChildProcess) -> None:
        self._child = child
        self._splitter = LineSplitter(LINE_BYTES)

    async def receive(self) -> list[bytes]:
        while data := await self._child.stdout.read(1 << 18):
            if lines := self._splitter.feed(data):
                return lines
        return self._splitter.end()

    async def send(self, frames: list[bytes]) -> None:
        try:
            self._child.stdin.write(b"".join(frame + b"\n" for frame in frames))
            await self._child.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise ChannelClosed from error

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._child.stdin.close()


class Server:
    """One app-server and its only client."""

    def __init__(self, child: ChildProcess, client: Client) -> None:
        self._pid = child.pid
        self.client = client
        self.greeted_after_seconds = 0.0
        """From the start of the process to the answer to its greeting."""
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._tasks = TaskScope("bench")
        self._tasks.start(self._listen(), "listen")

    async def close(self) -> None:
        """Listen no more."""
        await self._tasks.close()

    def cpu_seconds(self) -> float:
        """Processor time of the process and of its children that have ended."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def start_thread(self) -> str:
        """A new thread; its id."""
        return (await self.client.request("thread/start", {}))["thread"]["id"]

    async def turn(self, thread_id: str, text: str) -> None:
        """One turn to its end."""
        ended = self._ends[thread_id] = asyncio.get_running_loop().create_future()
        words = {"type": "text", "text": text, "text_elements": list[Any]()}
        await self.client.request("turn/start", {"threadId": thread_id, "input": [words]})
        async with asyncio.timeout(WAIT_SECONDS):
            await ended

    async def drop(self, thread_id: str) -> None:
        """Have the thread leave the server's memory."""
        self._ends.pop(thread_id, None)
        await self.client.request("thread/unsubscribe", {"threadId": thread_id})

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionLost):
            while True:
                event = await self.client.next_event(WAIT_SECONDS)
                if event.method == "turn/completed":
                    waiting = self._ends.get(event.params["threadId"])
                    if waiting is not None and not waiting.done():
                        waiting.set_result(None)


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    folder: Path,
    url: str,
    path: str,
    prepare: Callable[[Path], object] | None = None,
) -> AsyncGenerator[Server]:
    """`command` as a server that has greeted its client, on a new home in `folder`.

    `url` is the model provider's, `path` where programs are looked up; `prepare` fills the home
    before the start.
    """
    home, work = folder / "home", folder / "work"
    for each in (home, work):
        each.mkdir(parents=True)
    (home / "config.toml").write_text(_CONFIG.format(url=url))
    if prepare is not None:
        prepare(home)
    env = {"PATH": path, "HOME": str(folder), "TREADLE_HOME": str(home), "CODEX_HOME": str(home)}
    began = time.perf_counter()
    child = await spawn(command, cwd=work, env=env, stdin=True)
    scope = TaskScope("bench server")
    scope.start(_drain(child), "stderr")
    try:
        async with Client(_Streams(child), timeout_seconds=WAIT_SECONDS) as client:
            seen = Capabilities(experimental_api=True, opt_out_notification_methods=UNSEEN)
            await client.initialize("bench", "1", seen)
            server = Server(child, client)
            server.greeted_after_seconds = time.perf_counter() - began
            try:
                yield server
            finally:
                await server.close()
    finally:
        await child.stop(5.0)
        await scope.close()


async def _drain(child: ChildProcess) -> None:
    while await child.stderr.read(1 << 16):
        pass
