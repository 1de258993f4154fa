"""The app-server inside the caller's process, without socket or pipe (seed 003).

The same envelopes, dispatch and sessions as on the wire; only the bytes stay in memory. Every queue
is bounded by one capacity, and each side notices when it is full: a request that finds no room
raises WouldBlock, a notification that nobody reads is dropped and counted, a server request that
cannot be handed over is failed back so that no approval hangs, `turn/completed` always arrives.
"""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

import msgspec

from treadle.appserver.app import AppServer
from treadle.kit.queues import Closed, Full, Mailbox
from treadle.kit.tasks import TaskScope
from treadle.wire.protocol import jsonrpc
from treadle.wire.protocol.errors import INTERNAL, OVERLOADED, RpcError, invalid_request

DEFAULT_CAPACITY = 128
"""Entries per queue (seed 003's channel capacity)."""
STAGE_SECONDS = 5.0
"""How long each stage of a shutdown may take (seed 003)."""
MUST_DELIVER = frozenset({"turn/completed"})
"""Notifications that wait for room instead of being dropped."""

_SHUTTING_DOWN = "in-process app-server runtime is shutting down"


class WouldBlock(Exception):
    """The server has no room for this now; try again after reading events."""

    def __init__(self) -> None:
        super().__init__("in-process app-server client queue is full")


class ServerStopped(Exception):
    """The server has ended and takes nothing any more."""

    def __init__(self) -> None:
        super().__init__("in-process app-server runtime is closed")


@dataclass(frozen=True, slots=True)
class ServerNotification:
    """Something the server tells; `seq` is its number in its thread, if it has one."""

    method: str
    params: Any
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """Something the server asks; answer with `respond` or `fail`."""

    request_id: int | str
    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Lagged:
    """So many notifications were dropped here, because they were not read in time."""

    skipped: int


ServerEvent = ServerNotification | ServerRequest | Lagged


class _EmbeddedChannel:
    """The channel between a server and the caller beside it."""

    def __init__(self, capacity: int) -> None:
        self._inward: Mailbox[bytes] = Mailbox(capacity)
        self.events: Mailbox[ServerEvent] = Mailbox(capacity)
        self.pending: dict[bytes, asyncio.Future[bytes]] = {}
        self._skipped = 0
        self._room = asyncio.Event()

    # ------------------------------------------------------------------ the server's side

    async def receive(self) -> list[bytes]:
        """One frame of the caller; empty at the end."""
        try:
            return [await self._inward.get()]
        except Closed:
            return []

    async def send(self, frames: list[bytes]) -> None:
        """Hand frames to the caller; waits only for what must be delivered."""
        for frame in frames:
            message = jsonrpc.decode(frame)
            match message:
                case jsonrpc.Response():
                    self._answered(message)
                case jsonrpc.Request():
                    self._asked(message)
                case jsonrpc.Notification():
                    await self._told(message)
                case None:
                    continue

    async def close(self) -> None:
        """Nothing comes any more; what was asked and not answered fails."""
        self._inward.close()
        self.events.close()
        self._room.set()
        error = RpcError(INTERNAL, _SHUTTING_DOWN)
        for waiting in self.pending.values():
            if not waiting.done():
                waiting.set_exception(error)
        self.pending.clear()

    def _answered(self, response: jsonrpc.Response) -> None:
        waiting = self.pending.pop(response.raw_id, None)
        if waiting is None or waiting.done():
            return
        if response.raw_result is not None:
            waiting.set_result(response.raw_result)
            return
        error = response.error or {}
        code, text = error.get("code", INTERNAL), error.get("message", "")
        waiting.set_exception(RpcError(code, text, error.get("data")))

    def _asked(self, request: jsonrpc.Request) -> None:
        request_id = msgspec.json.decode(request.raw_id)
        event = ServerRequest(request_id, request.method, _plain(request.raw_params))
        try:
            self._offer(event)
        except Full:
            self.answer(
                jsonrpc.encode_error(
                    request.raw_id, OVERLOADED, "in-process server request queue is full"
                )
            )
        except Closed:
            self.answer(
                jsonrpc.encode_error(
                    request.raw_id, INTERNAL, "in-process server request consumer is closed"
                )
            )

    async def _told(self, notification: jsonrpc.Notification) -> None:
        params = _plain(notification.raw_params)
        event = ServerNotification(notification.method, params, notification.seq)
        while True:
            try:
                self._offer(event)
            except Full:
                if notification.method not in MUST_DELIVER:
                    self._skipped += 1
                    return
                self._room.clear()
                await self._room.wait()
            except Closed:
                return
            else:
                return

    def _offer(self, event: ServerEvent) -> None:
        """Queue an event, behind the mark of a gap if there is one; raises Full, Closed."""
        if self._skipped:
            self.events.put(Lagged(self._skipped))
            self._skipped = 0
        self.events.put(event)

    # ------------------------------------------------------------------ the caller's side

    def push(self, frame: bytes) -> None:
        """Hand a frame to the server; raises WouldBlock, ServerStopped."""
        try:
            self._inward.put(frame)
        except Full:
            raise WouldBlock from None
        except Closed:
            raise ServerStopped from None

    def answer(self, frame: bytes) -> None:
        """Hand an answer to the server, which always has room for it: it asked."""
        try:
            self._inward.force(frame)
        except Closed:
            return

    async def next_event(self) -> ServerEvent | None:
        """The next event; None at the end."""
        try:
            event = await self.events.get()
        except Closed:
            return None
        self._room.set()
        return event

    def finish(self) -> None:
        """End the caller's input."""
        self._inward.close()


class EmbeddedServer:
    """A connection to an app-server in this process; made ready by `start`."""

    def __init__(self, app: AppServer, *, capacity: int = DEFAULT_CAPACITY) -> None:
        """Serve `app` to one caller; every queue holds `capacity` entries, at least one."""
        self._app = app
        self._channel = _EmbeddedChannel(max(1, capacity))
        self._scope = TaskScope("in-process app-server")
        self._ids = itertools.count(1)
        self._stopped = False

    async def start(self, initialize: dict[str, Any]) -> Any:
        """Run the server and do the handshake; returns the answer to `initialize`.

        Raises:
            RpcError: the server refused the handshake; it has been shut down.
        """
        self._scope.start(self._app.serve(self._channel, last=True), "serve")
        try:
            answer = await self.request("initialize", initialize, request_id=0)
        except BaseException:
            await self.shutdown()
            raise
        self.notify("initialized")
        return answer

    async def request(
        self, method: str, params: Any = None, *, request_id: int | str | None = None
    ) -> Any:
        """Ask the server and wait for its result.

        Args:
            method: as on the wire.
            params: plain values or protocol structs.
            request_id: unique among the requests in flight; chosen here when None.

        Raises:
            RpcError: the server refused; also for an id that is in flight already.
            WouldBlock: the queue is full; read events and try again.
            ServerStopped: the server has ended.
        """
        raw_id = jsonrpc.encode(next(self._ids) if request_id is None else request_id)
        if raw_id in self._channel.pending:
            raise invalid_request(f"duplicate request id: {raw_id.decode()}")
        frame = b'{"method":%b,"id":%b' % (jsonrpc.encode(method), raw_id)
        frame += b"}" if params is None else b',"params":%b}' % jsonrpc.encode(params)
        self._channel.push(frame)
        answer = asyncio.get_running_loop().create_future()
        self._channel.pending[raw_id] = answer
        try:
            return msgspec.json.decode(await answer)
        finally:
            self._channel.pending.pop(raw_id, None)

    def notify(self, method: str, params: Any = None) -> None:
        """Tell the server something; raises WouldBlock, ServerStopped."""
        self._channel.push(jsonrpc.encode_notification(method, params, None))

    async def next_event(self) -> ServerEvent | None:
        """Wait for the next event, in order; None once the server has ended."""
        return await self._channel.next_event()

    def respond(self, request: ServerRequest, result: Any) -> None:
        """Answer a request of the server."""
        raw_id = jsonrpc.encode(request.request_id)
        self._channel.answer(jsonrpc.encode_result(raw_id, result))

    def fail(self, request: ServerRequest, message: str, code: int = INTERNAL) -> None:
        """Refuse a request of the server."""
        raw_id = jsonrpc.encode(request.request_id)
        self._channel.answer(jsonrpc.encode_error(raw_id, code, message))

    async def shutdown(self) -> None:
        """End the server: running turns are interrupted, threads closed. Bounded, idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self._channel.finish()
        if not await self._scope.join(STAGE_SECONDS):
            await self._scope.close(STAGE_SECONDS)
        await self._channel.close()


def _plain(raw: bytes | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)
