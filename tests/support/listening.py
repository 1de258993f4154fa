"""Server processes that listen, and clients of their sockets, for tests of transports.

    async with Listening(tmp_path) as lab:
        server = await lab.start("ws://127.0.0.1:0")
        ws = await lab.connect(server)

Every wait is bounded. A server's standard error is kept and may be waited on.
"""

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.protocol import State

from support.app_lab import CONFIG, PATH
from support.fake_provider import FakeProvider
from treadle.kit.processes import ChildProcess, spawn

WAIT_SECONDS = 20.0


@dataclass
class ListeningServer:
    """A server process and what it said so far."""

    child: ChildProcess
    said: str = ""
    silent: bool = False
    """Whether it will say nothing more."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def says(self, text: str) -> str:
        """Wait until its standard error has `text`; all it said."""
        async with asyncio.timeout(WAIT_SECONDS):
            while text not in self.said:
                assert not self.silent, f"it ended without {text!r}:\n{self.said}"
                self.changed.clear()
                await self.changed.wait()
        return self.said

    async def ends(self) -> int:
        """Wait for its exit code."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.child.wait()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.child.signal_group(number)

    @property
    def url(self) -> str:
        """Where it listens, as its first lines say."""
        line = next(line for line in self.said.splitlines() if "listening on:" in line)
        return line.split("listening on: ")[1]


class Wire:
    """One websocket client: requests, and what came in."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.came: list[dict[str, Any]] = []
        self._ids = iter(range(1, 1_000_000))

    async def send(self, method: str, params: Any = None) -> int:
        number = next(self._ids)
        await self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        return number

    async def until(self, **members: Any) -> dict[str, Any]:
        """Read up to a message with these members."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                message = json.loads(await self.socket.recv())
                self.came.append(message)
                if all(message.get(name) == value for name, value in members.items()):
                    return message

    async def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        """The whole reply."""
        return await self.until(id=await self.send(method, params))

    async def initialize(self, **capabilities: Any) -> None:
        client = {"name": "lab", "version": "1.0"}
        await self.ask("initialize", {"clientInfo": client, "capabilities": capabilities})

    async def start_thread(self) -> str:
        return (await self.ask("thread/start", {}))["result"]["thread"]["id"]

    async def start_turn(self, thread_id: str) -> dict[str, Any]:
        words = [{"type": "text", "text": "go"}]
        return await self.ask("turn/start", {"threadId": thread_id, "input": words})


@dataclass
class Listening:
    """A home, a provider, and the servers on them."""

    top: Path
    provider: FakeProvider = field(default_factory=FakeProvider)

    def __post_init__(self) -> None:
        self.home, self.work = self.top / "home", self.top / "work"
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Listening":
        self.home.mkdir()
        self.work.mkdir()
        await self._stack.enter_async_context(self.provider)
        text = CONFIG.format(url=self.provider.url, retries=0, extra="")
        (self.home / "config.toml").write_text(text)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def launch(self, *flags: str) -> ListeningServer:
        """Start a server process with these flags, whatever comes of it."""
        child = await spawn(
            [sys.executable, "-m", "treadle.cli.main", "app-server", *flags],
            cwd=self.work,
            env={
                "TREADLE_HOME": str(self.home),
                "PATH": PATH,
                "HOME": str(self.top),
                "PYTHONPATH": ":".join(sys.path),
            },
        )
        server = ListeningServer(child)
        self._stack.push_async_callback(child.stop, 0.1)
        reader = asyncio.create_task(_keep(server))
        self._stack.callback(reader.cancel)
        return server

    async def start(self, listen: str, *flags: str) -> ListeningServer:
        """Start a server and wait until it listens."""
        server = await self.launch("--listen", listen, *flags)
        await server.says("listening on: ")
        if listen.startswith("ws"):
            await server.says("note: ")
        return server

    async def refused(self, *flags: str) -> tuple[int, str]:
        """Start a server that should not start; exit code and what it said."""
        server = await self.launch(*flags)
        code = await server.ends()
        async with asyncio.timeout(WAIT_SECONDS):
            while not server.silent:
                server.changed.clear()
                await server.changed.wait()
        return code, server.said

    async def connect(self, server: ListeningServer, *, initialize: bool = True, **more: Any):
        """A client of the server."""
        if server.url.startswith("unix://"):
            opening = unix_connect(server.url.removeprefix("unix://"), "ws://localhost/", **more)
        else:
            opening = connect(server.url, proxy=None, max_size=None, **more)
        socket = await opening
        self._stack.push_async_callback(_leave, socket)
        wire = Wire(socket)
        if initialize:
            await wire.initialize()
        return wire


async def _leave(socket: ClientConnection) -> None:
    # Closing what is closed may abort a transport that has no loop any more (Python 3.11).
    if socket.state is not State.CLOSED:
        await socket.close()


async def _keep(server: ListeningServer) -> None:
    while data := await server.child.stderr.read(1 << 16):
        server.said += data.decode(errors="replace")
        server.changed.set()
    server.silent = True
    server.changed.set()
