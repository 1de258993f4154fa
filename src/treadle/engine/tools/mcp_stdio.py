"""An MCP server as a child process: its standard streams as the message streams of the package.

In place of the package's own transport, which reads this process's environment and lets the tree
outlive a kill of ours. Owns the process; standard error is read and its last lines kept for
explaining a failed start.
"""

import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from treadle.engine.tools.mcp_link import McpError
from treadle.engine.tools.mcp_settings import StdioTransport
from treadle.kit import reaper
from treadle.kit.deadlines import finish
from treadle.kit.processes import TREE_MARK, ChildProcess, SpawnError, spawn

logger = logging.getLogger(__name__)

LINE_BYTES = 32 << 20
"""Longest message of a server."""
_STDERR_LINES = 20
_GRACE_SECONDS = 1.0
_STOP_SECONDS = 4.0

Incoming = SessionMessage | Exception


@contextlib.asynccontextmanager
async def stdio_streams(
    transport: StdioTransport, on_end: Callable[[], None]
) -> AsyncGenerator[Any, None]:
    """The streams of a started server; its whole tree is stopped when the block is left.

    Raises:
        McpError: it could not be started, or ended before it had said anything.
    """
    try:
        child = await spawn(
            transport.argv,
            cwd=transport.cwd,
            # The mark ties the server to our life: it does not survive a kill of ours.
            env={**dict(transport.env), TREE_MARK: reaper.owner_mark()},
            stdin=True,
            limit=LINE_BYTES,
        )
    except SpawnError as error:
        raise McpError(f"cannot start `{transport.argv[0]}`: {error}") from error
    # Nothing is awaited between here and the block that stops the child.
    to_session, from_server = anyio.create_memory_object_stream[Incoming](0)
    to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    said: deque[str] = deque(maxlen=_STDERR_LINES)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read, child, to_session, on_end)
            tasks.start_soon(_write, child, from_session)
            tasks.start_soon(_listen, child, said)
            try:
                yield from_server, to_server
            finally:
                with contextlib.suppress(OSError, RuntimeError):
                    child.stdin.close()  # the polite word, before signals
                tasks.cancel_scope.cancel()
    finally:
        for stream in (to_session, from_server, to_server, from_session):
            stream.close()
        await finish(child.stop(_GRACE_SECONDS), _STOP_SECONDS, "stop of an MCP server")
        if said:
            logger.debug("%s said on standard error: %s", transport.argv[0], "\n".join(said))


async def _read(
    child: ChildProcess, to_session: MemoryObjectSendStream[Incoming], on_end: Callable[[], None]
) -> None:
    """Messages of the server, until it closes its output."""
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async with to_session:
            while line := await _line(child):
                if line.isspace():
                    continue
                await to_session.send(_message(line))
    on_end()


async def _line(child: ChildProcess) -> bytes:
    try:
        return await child.stdout.readline()
    except ValueError:
        # A line longer than the bound: where the next message begins is lost with it.
        logger.warning("an MCP server sent a message of more than %d bytes", LINE_BYTES)
        return b""


def _message(line: bytes) -> Incoming:
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError as error:
        return error
    return SessionMessage(message)


async def _write(
    child: ChildProcess, from_session: MemoryObjectReceiveStream[SessionMessage]
) -> None:
    """Messages to the server; a server that reads no more is noticed by its silence."""
    with contextlib.suppress(OSError, RuntimeError, anyio.ClosedResourceError):
        async for message in from_session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            child.stdin.write(text.encode() + b"\n")
            await child.stdin.drain()


async def _listen(child: ChildProcess, said: deque[str]) -> None:
    """Read standard error, so that a talkative server never blocks on it."""
    while data := await child.stderr.read(1 << 16):
        said.extend(data.decode(errors="replace").splitlines()[-_STDERR_LINES:])
