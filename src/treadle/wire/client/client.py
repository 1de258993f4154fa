"""A typed client of the protocol over any channel.

Owns the requests of ours that wait for an answer, and the queue of what the server says unasked.
Reuses the peer for reading and writing, and the method table for the types of results. Refuses to
know what any method means: whoever drives threads does so above.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, Self

import msgspec

from treadle.kit.queues import Closed, Full, Mailbox
from treadle.kit.tasks import TaskScope
from treadle.wire.protocol import jsonrpc
from treadle.wire.protocol.errors import INTERNAL, RpcError
from treadle.wire.protocol.initialize import (
    Capabilities,
    ClientInfo,
    InitializeParams,
    InitializeResult,
)
from treadle.wire.protocol.methods import METHODS
from treadle.wire.rpc.peer import Peer
from treadle.wire.transport.channel import Channel

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 60.0
"""How long an answer may take unless the caller says otherwise."""

EVENT_BOUND = 1 << 16
"""Unread events kept; past it notifications are dropped and counted, requests still enter."""


class ConnectionLost(Exception):
    """The connection ended; what was asked may or may not have been done."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something the server said unasked: a notification, or a request that wants an answer.

    Attributes:
        method: its name.
        raw_params: its parameters as JSON; None without any.
        raw_id: the id of a request; None for a notification.
        seq: a notification's number in its thread; None where it has none.
    """

    method: str
    raw_params: bytes | None
    raw_id: bytes | None = None
    seq: int | None = None

    @property
    def params(self) -> Any:
        """The parameters as plain values."""
        return None if self.raw_params is None else msgspec.json.decode(self.raw_params)

    @property
    def wants_answer(self) -> bool:
        """Whether the server waits for `Client.respond` or `Client.fail`."""
        return self.raw_id is not None


class Client:
    """One connection to an app-server; use it as an async context manager."""

    def __init__(
        self,
        channel: Channel,
        *,
        timeout_seconds: float = REQUEST_SECONDS,
        event_bound: int = EVENT_BOUND,
    ) -> None:
        """Speak over `channel`; nothing happens before the context is entered.

        Args:
            channel: a connected transport; closed together with the client.
            timeout_seconds: how long each answer may take.
            event_bound: unread events kept before notifications are dropped.
        """
        self._peer = Peer(channel)
        self._timeout = timeout_seconds
        self._ids = itertools.count(1)
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._events: Mailbox[Event] = Mailbox(event_bound)
        self._scope = TaskScope("client")
        self._lost = False
        self.dropped_events = 0
        """Notifications lost because nobody read them."""

    async def __aenter__(self) -> Self:
        self._scope.start(self._read(), "reader")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; requests that still wait fail with ConnectionLost. Idempotent."""
        await self._peer.close()
        await self._scope.close(1.0)
        self._end()

    # ------------------------------------------------------------------ asking

    async def initialize(
        self, name: str, version: str, capabilities: Capabilities | None = None
    ) -> InitializeResult:
        """The handshake, which must come first; raises like `request`."""
        params = InitializeParams(
            client_info=ClientInfo(name=name, version=version), capabilities=capabilities
        )
        result: InitializeResult = await self.call("initialize", params)
        self.notify("initialized")
        return result

    async def request(
        self, method: str, params: Any = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """Ask, and wait for the result as plain values.

        Raises:
            RpcError: the server answered with an error.
            ConnectionLost: the connection ended before the answer.
            TimeoutError: no answer came in time; a later one is ignored.
        """
        return msgspec.json.decode(await self._ask(method, params, timeout_seconds))

    async def call(
        self, method: str, params: Any = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """Ask, and wait for the result as the type that the method table names.

        Raises as `request` does, and msgspec.ValidationError for a result of another shape.
        """
        spec = METHODS.get(method)
        raw = await self._ask(method, params, timeout_seconds)
        return _decoder(spec.result if spec and spec.result is not None else Any).decode(raw)

    async def _ask(self, method: str, params: Any, timeout_seconds: float | None) -> bytes:
        request_id = next(self._ids)
        key = b"%d" % request_id
        answer = asyncio.get_running_loop().create_future()
        self._send(jsonrpc.encode_request(request_id, method, params))
        self._waiting[key] = answer
        try:
            async with asyncio.timeout(timeout_seconds or self._timeout):
                return await answer
        finally:
            self._waiting.pop(key, None)

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification; raises ConnectionLost."""
        self._send(jsonrpc.encode_notification(method, params, None))

    def _send(self, frame: bytes) -> None:
        if self._lost or not self._peer.send(frame):
            raise ConnectionLost

    # ------------------------------------------------------------------ hearing

    async def next_event(self, timeout_seconds: float | None = None) -> Event:
        """The next thing the server says unasked, in order.

        Raises:
            ConnectionLost: the connection ended and everything was read.
            TimeoutError: nothing came in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds or self._timeout):
                return await self._events.get()
        except Closed:
            raise ConnectionLost from None

    async def events(self) -> AsyncIterator[Event]:
        """Everything the server says unasked, until the connection ends."""
        while True:
            try:
                yield await self._events.get()
            except Closed:
                return

    def respond(self, event: Event, result: Any) -> None:
        """Answer a request of the server; does nothing for a notification."""
        if event.raw_id is not None:
            self._peer.reply(event.raw_id, result)

    def fail(self, event: Event, message: str, code: int = INTERNAL) -> None:
        """Refuse a request of the server; does nothing for a notification."""
        if event.raw_id is not None:
            self._peer.refuse(event.raw_id, RpcError(code, message))

    # ------------------------------------------------------------------ reading

    async def _read(self) -> None:
        try:
            await self._peer.run(self._take)
        finally:
            self._end()

    def _take(self, message: jsonrpc.Message) -> None:
        match message:
            case jsonrpc.Response():
                self._answered(message)
            case jsonrpc.Request(raw_id=raw_id, method=method, raw_params=params):
                self._events.force(Event(method, params, raw_id))
            case jsonrpc.Notification(method=method, raw_params=params, seq=seq):
                try:
                    self._events.put(Event(method, params, seq=seq))
                except Full:
                    self.dropped_events += 1

    def _answered(self, response: jsonrpc.Response) -> None:
        waiting = self._waiting.get(response.raw_id)
        if waiting is None or waiting.done():
            logger.debug("an answer that nobody waits for: %r", response.raw_id)
        elif response.error is not None:
            waiting.set_exception(_as_error(response.error))
        else:
            waiting.set_result(response.raw_result or b"null")

    def _end(self) -> None:
        """Nothing more will come: let everyone who waits know."""
        self._lost = True
        self._events.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionLost())


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _as_error(error: dict[str, Any]) -> RpcError:
    code = error.get("code")
    return RpcError(
        code if isinstance(code, int) else INTERNAL,
        str(error.get("message", "")),
        error.get("data"),
    )
