"""An app-server and a client in this process, joined in memory, for commands that need a thread."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from treadle.cli.wiring.engine import Engine
from treadle.cli.wiring.version import VERSION
from treadle.kit.tasks import TaskScope
from treadle.wire.client.client import Client
from treadle.wire.protocol.initialize import Capabilities
from treadle.wire.transport.memory import memory_channels


@asynccontextmanager
async def connected(engine: Engine, name: str) -> AsyncGenerator[Client]:
    """A client of `engine` under the originator `name`; the engine is closed with it."""
    ours, theirs = memory_channels()
    scope = TaskScope("embedded app-server")
    scope.start(engine.app.serve(theirs, last=True), "serve")
    try:
        async with Client(ours) as client:
            await client.initialize(name, VERSION, Capabilities(experimental_api=True))
            yield client
    finally:
        await scope.join(8.0)
        await scope.close(1.0)
        await engine.close()
