"""Thread store servers as processes of their own, for tests.

async with StoreServer(tmp_path) as server:
    store = RemoteThreadStore(server.endpoint, SystemClock())
    await server.kill()
    await server.start()      # the same database, the same port
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from treadle.kit.processes import ChildProcess, spawn

WAIT_SECONDS = 20.0
PATH = os.environ.get("PATH", "/usr/bin:/bin")


async def python(*arguments: str, stdin: bool = False) -> ChildProcess:
    """A Python process that sees the sources."""
    env = {"PATH": PATH, "PYTHONPATH": ":".join(sys.path)}
    return await spawn([sys.executable, *arguments], env=env, stdin=stdin)


async def line_of(child: ChildProcess) -> str:
    """The next line it says."""
    async with asyncio.timeout(WAIT_SECONDS):
        return (await child.stdout.readline()).decode().strip()


class StoreServer:
    """`treadle thread-store serve` on one database; the port stays the same across starts."""

    def __init__(self, folder: Path, lease_seconds: float = 15.0) -> None:
        self.database = folder / "server" / "threads.db"
        self.endpoint = ""
        self._listen = "127.0.0.1:0"
        self._lease = str(lease_seconds)
        self.child: Any = None

    async def __aenter__(self) -> "StoreServer":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.child.stop(5.0)

    async def start(self) -> None:
        """Start it; returns once it listens."""
        options = ["--listen", self._listen, "--database", f"sqlite:///{self.database}"]
        options += ["--lease-seconds", self._lease]
        self.child = await python("-m", "treadle.cli.main", "thread-store", "serve", *options)
        said = await line_of(self.child)
        assert "listening on http://" in said, said
        self.endpoint = said.partition("listening on ")[2]
        self._listen = self.endpoint.removeprefix("http://")

    async def kill(self) -> None:
        """kill -9."""
        os.kill(self.child.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            async with asyncio.timeout(WAIT_SECONDS):
                await self.child.wait()
