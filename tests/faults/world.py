"""The processes of a fault programme: managers and their database, each behind proxies.

Managers keep their ports over restarts, so that whoever talks to one finds it again. A manager that
ends while it should be up, by whatever fault, is started again. Knows nothing of runs.
"""

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from faults.proxy import Proxy
from support.command_line import Home, Running, start
from support.postgres import OwnServer, Session, find_binaries

APPLICATION = "treadle-manager"
START_TRIES = 60
UP_SECONDS = 60.0


class ManagerSpot:
    """A manager at a fixed port, behind a proxy; whoever asks it asks the proxy."""

    def __init__(self, name: str, folder: Path, database: str | None, rng: random.Random) -> None:
        self.name = name
        self.port = free_port()
        self.database = database
        self.proxy = Proxy(("127.0.0.1", self.port), rng)
        self.starts = 0
        self.stderr: list[str] = []
        self.unexpected: list[str] = []
        self._home = Home(folder)
        self._folder = folder
        self._running: Running | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._points = ""
        self._expected = False

    @property
    def url(self) -> str:
        """Where to ask this manager, through its proxy."""
        return f"http://127.0.0.1:{self.proxy.port}"

    @property
    def direct_url(self) -> str:
        """The same without the proxy."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id; fails when the manager is down."""
        assert self._running is not None
        return self._running.pid

    async def start(self) -> None:
        """Start the proxy and the manager, and keep it up."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await self.proxy.start()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_up())
        await self.wait_up()

    async def wait_up(self) -> None:
        """Return once it listens."""
        async with asyncio.timeout(UP_SECONDS):
            await self._up.wait()

    def signal(self, number: signal.Signals, *, points: str = "") -> None:
        """Signal the process; `points` are the fault points that the next one is armed for."""
        self._points = points
        if self._running is not None and self._up.is_set():
            self._expected = True
            self._running.signal(number)

    async def stop(self) -> None:
        """End for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._running is not None:
            await self._running.kill()
            self.stderr.append(self._running.err.text)
        await self.proxy.stop()

    async def _keep_up(self) -> None:
        while True:
            if not await self._start_once():
                await asyncio.sleep(0.3)  # such as a database that is down
                continue
            assert self._running is not None
            code = await self._running.process.wait()
            self._up.clear()
            if not self._expected:
                self.unexpected.append(f"{self.name} ended with {code}: {self._running.err.text}")
            await self._running.kill()
            self.stderr.append(self._running.err.text)

    async def _start_once(self) -> bool:
        points, self._points = self._points, ""
        self._expected = bool(points)
        variables = {"TREADLE_FAULT_POINTS": points} if points else {}
        arguments = ["manager", "--json", "--auth", "none", "--port", str(self.port)]
        arguments += ["--data", str(self._folder)]
        if self.database is not None:
            arguments += ["--database", self.database]
        home = Home(self._home.folder, variables)
        running = self._running = await start(home, *arguments)
        self.starts += 1
        try:
            await running.wait_line("listening")
        except AssertionError:
            await running.kill()
            self.stderr.append(running.err.text)
            return False
        self._up.set()
        return True


class Database:
    """A PostgreSQL server of our own that crashes and comes back, or a file of one manager."""

    def __init__(self, server: OwnServer | None) -> None:
        self.server = server
        self._admin: Session | None = None

    def url_through(self, proxy: Proxy) -> str:
        """The server's URL by way of a proxy."""
        assert self.server is not None
        parts = urlsplit(self.server.url)
        host = f"{parts.username}@127.0.0.1:{proxy.port}"
        return urlunsplit(parts._replace(netloc=host, query="sslmode=disable"))

    async def cut_sessions(self) -> int:
        """End the sessions of all managers; how many there were."""
        return await asyncio.to_thread(self._cut)

    async def crash(self, down_seconds: float) -> None:
        """Stop at once and start again."""
        assert self.server is not None
        self._forget_session()
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(down_seconds)
        await asyncio.to_thread(self.server.start)

    def _cut(self) -> int:
        assert self.server is not None
        if self._admin is None:
            self._admin = Session(self.server.url)
        rows = self._admin.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = $1 AND pid <> pg_backend_pid()",
            APPLICATION,
        )
        return len(rows)

    def _forget_session(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def close(self) -> None:
        """End the server."""
        self._forget_session()
        if self.server is not None:
            self.server.remove()


class World:
    """Managers on one database."""

    def __init__(self, managers: list[ManagerSpot], database: Database, pg: list[Proxy]) -> None:
        self.managers = managers
        self.database = database
        self.database_proxies = pg

    @property
    def is_postgres(self) -> bool:
        """Whether the database is a server."""
        return self.database.server is not None

    @property
    def proxies(self) -> Iterator[Proxy]:
        """All proxies there are."""
        for manager in self.managers:
            yield manager.proxy
        yield from self.database_proxies

    def heal(self) -> None:
        """End all trouble of the network."""
        for proxy in self.proxies:
            proxy.heal()

    async def wait_up(self) -> None:
        """Return once every manager listens."""
        for manager in self.managers:
            await manager.wait_up()


@contextlib.asynccontextmanager
async def make_world(
    folder: Path, rng: random.Random, *, kind: str, managers: int
) -> AsyncGenerator[World]:
    """A world on `kind` of database (postgres or sqlite); a file has one manager."""
    database = Database(None)
    spots: list[ManagerSpot] = []
    proxies: list[Proxy] = []
    try:
        if kind == "postgres":
            options = ("-c", "shared_buffers=64MB", "-c", "max_wal_size=256MB")
            database.server = await asyncio.to_thread(OwnServer, find_binaries(), *options)
        for number in range(managers if kind == "postgres" else 1):
            url = None
            if database.server is not None:
                proxy = Proxy(("127.0.0.1", database.server.port), rng, speaks="postgres")
                await proxy.start()
                proxies.append(proxy)
                url = database.url_through(proxy)
            spots.append(ManagerSpot(f"m{number}", folder / f"m{number}", url, rng))
            await spots[-1].start()
        yield World(spots, database, proxies)
    finally:
        for spot in spots:
            await spot.stop()
        for proxy in proxies:
            await proxy.stop()
        await asyncio.to_thread(database.close)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
