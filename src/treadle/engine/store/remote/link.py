"""The connection to a server: calls with a deadline, repeated within bounds when it breaks.

Owns the meaning of status codes: what says nothing about the outcome is sent again, everything
else becomes an error of the port. Knows the methods' shape, not their meaning.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from treadle.engine.store.remote.methods import MAX_MESSAGE_BYTES, METHODS, SERVICE
from treadle.engine.store.thread_store import (
    InvalidQuery,
    StorageFailed,
    StoreError,
    ThreadIsArchived,
    ThreadNotFound,
    Unsupported,
    WriterConflict,
)
from treadle.kit.clock import Clock

T = TypeVar("T")

CALL_SECONDS = 10.0
"""Deadline of one attempt."""
PATIENCE_SECONDS = 20.0
"""How long a call is repeated before it fails: longer than a server needs to start again."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_http_proxy", 0),  # a store is named by its address, not found through the web
)
_AGAIN = frozenset(
    # CANCELLED: a server that stops cancels what it cannot end; our own cancel raises otherwise.
    (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
)
_TEXT_ERRORS: dict[grpc.StatusCode, type[StoreError]] = {
    grpc.StatusCode.ABORTED: WriterConflict,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidQuery,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}


class Link:
    """One channel; it connects with the first call, and again whenever it broke."""

    def __init__(
        self, endpoint: str, clock: Clock, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Talk to `endpoint`: HOST:PORT or http://HOST:PORT in the clear, https://HOST:PORT by TLS.

        Raises:
            StorageFailed: the endpoint has another form.
        """
        self.endpoint = endpoint
        self._clock = clock
        self._patience_seconds = patience_seconds
        scheme, mark, rest = endpoint.rpartition("://")
        self._target = rest.rstrip("/")
        self._encrypted = scheme == "https"
        if (mark and scheme not in ("http", "https")) or not self._target or "/" in self._target:
            raise StorageFailed(
                f"the thread store's endpoint is {endpoint!r}; write http://HOST:PORT, or"
                " https://HOST:PORT for TLS"
            )
        self._channel: Any = None
        self._closed = False

    async def call(
        self, name: str, request: Any, *, thread_id: str = "", patience_seconds: float | None = None
    ) -> Any:
        """One request, one reply.

        Raises:
            StoreError: the refusal, as the port spells it; StorageFailed when nobody answers.
        """

        async def attempt(method: Any) -> Any:
            return await method(request, timeout=CALL_SECONDS)

        return await self._persist(name, attempt, thread_id, patience_seconds)

    async def collect(self, name: str, request: Any, *, thread_id: str) -> list[Any]:
        """One request, all its replies; begins anew when the connection breaks in between."""

        async def attempt(method: Any) -> list[Any]:
            return [reply async for reply in method(request, timeout=CALL_SECONDS)]

        return await self._persist(name, attempt, thread_id, None)

    async def close(self) -> None:
        """Close the connection; idempotent."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _persist(
        self,
        name: str,
        attempt: Callable[[Any], Awaitable[T]],
        thread_id: str,
        patience_seconds: float | None,
    ) -> T:
        patience = self._patience_seconds if patience_seconds is None else patience_seconds
        give_up_at = self._clock.monotonic() + patience
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await attempt(self._method(name))
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN:
                    raise _refusal(name, thread_id, error) from error
                if self._clock.monotonic() + pause > give_up_at:
                    raise StorageFailed(
                        f"the thread store at {self.endpoint} does not answer"
                        f" ({error.details() or error.code().name}); see that it runs, then go on"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _method(self, name: str) -> Any:
        if self._closed:
            raise StorageFailed("the thread store is closed")
        if self._channel is None:
            self._channel = self._connect()
        method = METHODS[name]
        make = self._channel.unary_stream if method.streams else self._channel.unary_unary
        return make(
            f"/{SERVICE}/{name}",
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.reply.FromString,
        )

    def _connect(self) -> Any:
        library: Any = grpc.aio
        if self._encrypted:
            trust = grpc.ssl_channel_credentials()
            return library.secure_channel(self._target, trust, options=_OPTIONS)
        return library.insecure_channel(self._target, options=_OPTIONS)


def _refusal(name: str, thread_id: str, error: grpc.aio.AioRpcError) -> StoreError:
    code, text = error.code(), error.details() or error.code().name
    if code is grpc.StatusCode.NOT_FOUND:
        return ThreadNotFound(thread_id, archived=name == "Unarchive")
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return ThreadIsArchived(thread_id)
    return _TEXT_ERRORS.get(code, StorageFailed)(text)
