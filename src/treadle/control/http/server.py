"""The manager process's server: opens the database, listens, sweeps, and stops in bounded time.

`serve` is what a composition root calls. Reads no environment and installs no signal handler: who
starts it decides when to stop it.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from treadle.control.controller import Retention, retain_logs, sweep_leases
from treadle.control.db.open import open_database
from treadle.control.db.repository import Repository
from treadle.control.events import Bells, RunLog
from treadle.control.http import (
    commands,
    console,
    events,
    health,
    openapi,
    runners,
    runs,
    scrape,
    tokens,
)
from treadle.control.http.auth import LOOPBACK_NAMES, AuthMode, Gate
from treadle.control.http.exchange import Desk, closed_door
from treadle.control.http.ingress import make_redactor
from treadle.control.http.metered import MeteredRepository
from treadle.control.http.metrics import Metrics
from treadle.control.http.run_scopes import RunScopes
from treadle.control.http.watchdog import LoopWatch
from treadle.control.placement.placer import MakePlacer
from treadle.kit.clock import Clock, SystemClock, iso_millis
from treadle.kit.deadlines import finish
from treadle.kit.tasks import TaskScope

STOP_SECONDS = 1.3
CLOSE_SECONDS = 5.0
BACKLOG = 1024


class ManagerStartError(Exception):
    """The manager cannot start as asked; the text names the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """How a manager is to run; `port` 0 takes any free one."""

    host: str = "127.0.0.1"
    port: int = 0
    data_folder: Path = field(default_factory=lambda: Path(".treadle-manager"))
    database_url: str | None = None
    """`sqlite:///PATH` or `postgresql://USER@HOST:PORT/DATABASE`.

    A relative PATH is below the data folder. Default: `manager.db` there.
    """
    auth: AuthMode = "none"
    token: str | None = None
    """The API token of auth mode `token`."""
    drain_seconds: float = 0.0
    """How long `stop` still serves after readiness went, so that balancers send nobody here."""
    retention: Retention = field(default_factory=Retention)
    """What is dropped when it is old; nothing by default."""
    placers: Sequence[MakePlacer] = ()
    """Who places the runners of runs that ask for more than the pool."""


class RunningManager:
    """A manager that listens; `stop` ends it."""

    def __init__(
        self,
        address: str,
        log: RunLog,
        server: uvicorn.Server,
        scope: TaskScope,
        drain_seconds: float,
    ) -> None:
        """Use `serve`."""
        self.address = address
        self._drain_seconds = drain_seconds
        self._log = log
        self._server = server
        self._scope = scope
        self._stopped = False

    @property
    def repository(self) -> Repository:
        """The database, for commands that run inside the manager."""
        return self._log.repository

    async def wait_closed(self) -> None:
        """Wait until the server ended, by `stop` or by itself."""
        while not await self._scope.join(3600.0):
            continue

    async def stop(self) -> None:
        """Stop accepting, send parked readers home, finish writes, close the database. Idempotent.

        Order matters: readiness goes first, while all is still served; readers go then, since the
        server waits for their answers; the database goes last, since those answers may need it.
        """
        if self._stopped:
            return
        self._stopped = True
        self._log.retire()
        await self._scope.join(self._drain_seconds)
        self._log.close()
        self._server.should_exit = True
        await self._scope.join(STOP_SECONDS)
        await self._scope.close(0.3)
        await finish(self._log.repository.close(), CLOSE_SECONDS, "close the database")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, saying when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Note that the sockets are served now."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the process's own root."""
        yield


async def serve(options: ManagerOptions, clock: Clock | None = None) -> RunningManager:
    """Start a manager; returns once it answers.

    Raises:
        ManagerStartError: the address or token cannot be used.
        DatabaseUnusable: the database, its URL or its folder cannot be used.
    """
    clock = clock or SystemClock()
    _check_options(options)
    listener = _listen(options)
    bells = Bells()
    try:
        repository = await open_database(options.database_url, options.data_folder, clock, bells)
    except BaseException:
        listener.close()
        raise
    desk = _make_desk(options, repository, bells, clock)
    log = desk.log
    app = make_app(desk)
    config = uvicorn.Config(
        app,
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    scope = TaskScope("manager")
    serving = scope.start(server.serve(sockets=[listener]), "http")
    starting = scope.start(server.listening.wait(), "listening")
    sweeping = scope.start(sweep_leases(log.repository), "sweep")
    watching = scope.start(desk.watch.run(), "watch")
    retaining = scope.start(retain_logs(log.repository, options.retention, clock), "retain")
    placing = [scope.start(placer.run(), f"place {name}") for name, placer in desk.placers.items()]
    for loop in (sweeping, watching, retaining, *placing):
        serving.add_done_callback(lambda _, loop=loop: loop.cancel())
    await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not server.started:
        await scope.close()
        await repository.close()
        raise ManagerStartError("The HTTP server did not start; see the log for the reason.")
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return RunningManager(f"http://{name}:{port}", log, server, scope, options.drain_seconds)


def _make_desk(options: ManagerOptions, repository: Repository, bells: Bells, clock: Clock) -> Desk:
    metrics = Metrics(clock)
    metered = MeteredRepository(repository, metrics, clock)
    placers = [make(metered, bells, clock) for make in options.placers]
    return Desk(
        log=RunLog(metered, bells, clock),
        gate=Gate(options.auth, options.token, clock, metered.find_principal),
        scopes=RunScopes(metered.read_run_scope),
        started_at=iso_millis(clock.now()),
        clock=clock,
        metrics=metrics,
        watch=LoopWatch(clock),
        redactor=make_redactor(options.token),
        placers={placer.placement: placer for placer in placers},
    )


def make_app(desk: Desk) -> Starlette:
    """The application with all its routes."""
    app = Starlette(
        routes=[  # tried one after the other: what is asked most comes first
            *events.ROUTES,
            *runners.ROUTES,
            *commands.ROUTES,
            *runs.ROUTES,
            *tokens.ROUTES,
            *health.ROUTES,
            *scrape.ROUTES,
            *openapi.ROUTES,
            *console.ROUTES,
        ],
        exception_handlers={HTTPException: closed_door},
    )
    app.state.desk = desk
    return app


def _check_options(options: ManagerOptions) -> None:
    if options.auth == "token" and not options.token:
        raise ManagerStartError("Auth mode token needs a token; give one, or use auth mode none.")
    if options.auth == "none" and options.host not in LOOPBACK_NAMES:
        raise ManagerStartError(
            f"Without authentication the manager listens on this machine only, not on "
            f"{options.host}; use auth mode token, or host 127.0.0.1."
        )


def _listen(options: ManagerOptions) -> socket.socket:
    """A listening socket of our own, so that a refusal can be explained."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is: without it
    # every second answer waits 40 ms for the peer's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ManagerStartError(_why_not(options, error)) from error
    listener.setblocking(False)
    return listener


def _why_not(options: ManagerOptions, error: Exception) -> str:
    where = f"{options.host}:{options.port}"
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return f"{where} is in use by another program; stop it, or choose another port (0: any)."
    if code == errno.EACCES:
        return f"No permission to listen on {where}; choose a port above 1023."
    return f"Cannot listen on {where} ({error}); choose an address of this machine and a free port."
