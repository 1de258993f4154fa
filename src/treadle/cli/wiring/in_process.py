"""`treadle.InProcessServer`: an app-server of one's own, as configured, in this process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from treadle.appserver.embed import (
    DEFAULT_CAPACITY,
    EmbeddedServer,
    ServerEvent,
    ServerRequest,
)
from treadle.cli.wiring.engine import Engine, build_engine
from treadle.config.environment import Environment
from treadle.config.load import load_config, read_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcessOptions:
    """How an in-process server runs."""

    client_name: str = "treadle-embedder"
    client_version: str = "0"
    home: str | None = None
    """The home folder; None takes the environment's."""
    overrides: tuple[str, ...] = ()
    """Configuration as on the command line: `key=value`, the value in TOML."""
    session_source: Any = "cli"
    """Stamped on the threads it starts."""
    experimental: bool = True
    opt_out: tuple[str, ...] = ()
    """Notification methods not to be told."""
    capacity: int = DEFAULT_CAPACITY
    """Entries of each queue; 0 counts as 1."""
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    """Variables instead of the process's own."""


class InProcessServer:
    """An app-server in this process.

    `async with InProcessServer(options) as server:` does the handshake, and the shutdown at the
    end. See `EmbeddedServer` for what can be asked and what is raised.
    """

    def __init__(self, options: InProcessOptions | None = None) -> None:
        self._options = options or InProcessOptions()
        self._engine: Engine | None = None
        self._server: EmbeddedServer | None = None
        self.initialized: Any = None
        """The answer to the handshake."""

    async def __aenter__(self) -> Self:
        options = self._options
        self._engine = build_engine(
            load_config(_environment(options), overrides=options.overrides),
            source=options.session_source,
        )
        self._server = EmbeddedServer(self._engine.app, capacity=options.capacity)
        client = {"name": options.client_name, "title": None, "version": options.client_version}
        capabilities = {
            "experimentalApi": options.experimental,
            "optOutNotificationMethods": list(options.opt_out),
        }
        try:
            self.initialized = await self._server.start(
                {"clientInfo": client, "capabilities": capabilities}
            )
        except BaseException:
            await self._engine.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()

    def _running(self) -> EmbeddedServer:
        if self._server is None:
            raise RuntimeError("enter the server with `async with` before using it")
        return self._server

    async def request(
        self, method: str, params: Any = None, *, request_id: int | str | None = None
    ) -> Any:
        """See `EmbeddedServer.request`."""
        return await self._running().request(method, params, request_id=request_id)

    def notify(self, method: str, params: Any = None) -> None:
        """See `EmbeddedServer.notify`."""
        self._running().notify(method, params)

    async def next_event(self) -> ServerEvent | None:
        """See `EmbeddedServer.next_event`."""
        return await self._running().next_event()

    def respond(self, request: ServerRequest, result: Any) -> None:
        """See `EmbeddedServer.respond`."""
        self._running().respond(request, result)

    def fail(self, request: ServerRequest, message: str) -> None:
        """See `EmbeddedServer.fail`."""
        self._running().fail(request, message)

    async def shutdown(self) -> None:
        """End server and engine; bounded, idempotent."""
        if self._server is not None:
            await self._server.shutdown()
        if self._engine is not None:
            await self._engine.close()


def _environment(options: InProcessOptions) -> Environment:
    own = read_environment()
    variables = dict(own.variables if options.environment is None else options.environment)
    if options.home is not None:
        variables["TREADLE_HOME"] = options.home
    return Environment(MappingProxyType(variables), own.working_folder)
