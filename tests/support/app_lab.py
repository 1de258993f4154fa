"""An app-server for tests: a home, a workspace, a scripted provider, and clients of the server.

    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)

`memory` serves every client from one engine in this process; `stdio` starts one server process per
client, all on the same home. Every wait is bounded.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from support.fake_provider import FakeProvider
from treadle.cli.wiring.engine import Engine, build_engine
from treadle.config.environment import Environment
from treadle.config.key_path import flags_table
from treadle.config.store import ConfigStore
from treadle.kit.processes import ChildProcess, spawn
from treadle.kit.tasks import TaskScope
from treadle.wire.client.client import Client, Event
from treadle.wire.protocol.initialize import Capabilities
from treadle.wire.transport.channel import Channel, ChannelClosed
from treadle.wire.transport.framing import LineSplitter
from treadle.wire.transport.memory import memory_channels

Kind = Literal["memory", "stdio"]

WAIT_SECONDS = 20.0
"""Bound of every wait; a test that reaches it has failed."""

PATH = "/usr/local/bin:/usr/bin:/bin"
LINE_BYTES = 64 << 20

CONFIG = """\
model = "mock-model"
approval_policy = "never"
sandbox_mode = "danger-full-access"
model_provider = "mock_provider"
{extra}
[model_providers.mock_provider]
name = "Mock provider for test"
base_url = "{url}"
wire_api = "responses"
request_max_retries = {retries}
stream_max_retries = {retries}
"""


class ProcessChannel:
    """The standard streams of a server process as a channel."""

    def __init__(self, child: ChildProcess) -> None:
        self.child = child
        self._splitter = LineSplitter(LINE_BYTES)

    async def receive(self) -> list[bytes]:
        while data := await self.child.stdout.read(1 << 16):
            if lines := self._splitter.feed(data):
                return lines
        return self._splitter.end()

    async def send(self, frames: list[bytes]) -> None:
        try:
            self.child.stdin.write(b"".join(frame + b"\n" for frame in frames))
            await self.child.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise ChannelClosed from error

    async def close(self) -> None:
        """End the server's input, which ends the server; kill it only when it hangs."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.child.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                await self.child.wait()
        await self.child.stop(0.1)


class Tap:
    """A channel that keeps every frame the server sent, in order."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.seen: list[dict[str, Any]] = []
        self._grew = asyncio.Event()

    async def receive(self) -> list[bytes]:
        frames = await self.channel.receive()
        self.seen += [msgspec.json.decode(frame) for frame in frames]
        self._grew.set()
        return frames

    async def until_answered(self, ids: Collection[Any]) -> dict[Any, dict[str, Any]]:
        """Wait until requests with these ids are answered; the answers by id."""
        wanted = set(ids)
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                self._grew.clear()
                found = {m["id"]: m for m in self.seen if m.get("id") in wanted}
                if len(found) == len(wanted):
                    return found
                await self._grew.wait()

    async def send(self, frames: list[bytes]) -> None:
        await self.channel.send(frames)

    async def close(self) -> None:
        await self.channel.close()


class LabClient(Client):
    """The typed client, with shortcuts that tests share."""

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap, timeout_seconds=WAIT_SECONDS)
        self.tap = tap
        self.heard: list[Event] = []
        """Events that `until` has read."""

    async def until(self, method: str, when: Callable[[Any], bool] | None = None) -> Any:
        """Read events up to a notification of `method`; its parameters."""
        while True:
            event = await self.next_event()
            self.heard.append(event)
            if event.method == method and (when is None or when(event.params)):
                return event.params

    async def settle(self) -> list[Event]:
        """All events of now: a round trip after which everything queued before it was read."""
        await self.request("model/list", {})
        while len(self._events):
            self.heard.append(await self.next_event())
        return self.heard

    def methods(self) -> list[str]:
        """Names of the events heard so far."""
        return [event.method for event in self.heard]


@dataclass
class AppLab:
    """One home and everything that runs on it."""

    top: Path
    kind: Kind
    retries: int = 0
    extra: str = ""
    """Further top-level lines of config.toml."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Further variables of the engine in this process."""
    provider: FakeProvider = field(default_factory=FakeProvider)

    def __post_init__(self) -> None:
        self.home, self.work = self.top / "home", self.top / "work"
        self.children: list[ChildProcess] = []
        self._stack = contextlib.AsyncExitStack()
        self._engine: Engine | None = None
        self._serving = TaskScope("app lab")

    async def __aenter__(self) -> "AppLab":
        self.home.mkdir(exist_ok=True)
        self.work.mkdir(exist_ok=True)
        await self._stack.enter_async_context(self.provider)
        text = CONFIG.format(url=self.provider.url, retries=self.retries, extra=self.extra)
        (self.home / "config.toml").write_text(text)
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if self._engine is not None:
                await self._engine.close()
            await self._serving.close()
        finally:
            # Clients and server processes, last come first gone, then the provider.
            await self._stack.aclose()

    # ------------------------------------------------------------------ connecting

    async def open_channel(self) -> Channel:
        """A connected transport, without a client on it."""
        if self.kind == "stdio":
            return ProcessChannel(await self.start_process())
        here, there = memory_channels()
        self._serving.start(self.engine.app.serve(there), "connection")
        return here

    async def connect(self, *, experimental: bool = False, opt_out: tuple[str, ...] = ()):
        """A client that has shaken hands; it leaves with the lab."""
        client = await self.connect_raw()
        capabilities = Capabilities(
            experimental_api=experimental, opt_out_notification_methods=list(opt_out)
        )
        await client.initialize("lab", "1.0", capabilities)
        return client

    async def connect_raw(self) -> LabClient:
        """A client that has said nothing yet."""
        tap = Tap(await self.open_channel())
        return await self._stack.enter_async_context(LabClient(tap))

    @property
    def engine(self) -> Engine:
        """The engine in this process (memory only); made when first asked for."""
        if self._engine is None:
            variables = {"TREADLE_HOME": str(self.home), "PATH": PATH, "HOME": str(self.top)}
            store = ConfigStore(
                Environment(variables | self.variables, self.work),
                flags_table(()),
                None,
                self.top / "etc",
            )
            self._engine = build_engine(store)
        return self._engine

    async def start_process(self) -> ChildProcess:
        """A server process over stdio; ended with the lab at the latest."""
        child = await spawn(
            [sys.executable, "-m", "treadle.cli.main", "app-server"],
            cwd=self.work,
            env={
                "TREADLE_HOME": str(self.home),
                "PATH": PATH,
                "HOME": str(self.top),
                "PYTHONPATH": ":".join(sys.path),
            },
            stdin=True,
        )
        self.children.append(child)
        self._stack.push_async_callback(child.stop, 0.1)
        drain = asyncio.create_task(_drain(child))
        self._stack.callback(drain.cancel)
        return child

    def kill(self) -> None:
        """Kill the newest server process without a word."""
        self.children[-1].signal_group(signal.SIGKILL)

    # ------------------------------------------------------------------ shortcuts

    async def start_thread(self, client: Client, **params: Any) -> str:
        """Start a thread in the workspace; its id."""
        session = await client.request("thread/start", {"cwd": str(self.work), **params})
        return session["thread"]["id"]

    async def run_turn(self, client: LabClient, thread_id: str, text: str = "go") -> Any:
        """Run a turn to its end; the finished turn."""
        await client.request("turn/start", turn(thread_id, text))
        done = await client.until("turn/completed", lambda p: p["threadId"] == thread_id)
        return done["turn"]


async def _drain(child: ChildProcess) -> None:
    while await child.stderr.read(1 << 16):
        pass


def turn(thread_id: str, text: str = "go", **more: Any) -> dict[str, Any]:
    """Parameters of `turn/start` with one text."""
    return {"threadId": thread_id, "input": [{"type": "text", "text": text}], **more}
