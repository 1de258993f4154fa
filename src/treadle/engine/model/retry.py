"""Trying again: a wrapper around any model client. The only place that retries a model call.

Two loops, as providers are configured. A *request* is sent again when nothing of an answer came
(5xx, no connection); an *exchange* is tried again as a whole when its stream broke or was refused.
Both are bounded in number and wait, and each retry is told before its wait. Which failures allow
which retry is written on the `ModelError`; this module adds no opinion of its own.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from treadle.engine.model.model_client import (
    ModelClient,
    ModelError,
    ModelEvent,
    ModelRequest,
    Retrying,
)

FIRST_WAIT_SECONDS = 0.2
"""Doubles with each retry; codex 0.169.0's figure."""
LONGEST_BACKOFF_SECONDS = 30.0
LONGEST_ASKED_WAIT_SECONDS = 600.0
"""A provider that asks for more patience gets none: the turn fails and says how long to wait."""

Sleep = Callable[[float], Awaitable[None]]
Jitter = Callable[[], float]


class RequestRetrying(ModelEvent, frozen=True):
    """The HTTP request is sent again; no answer had begun, so nothing is void."""

    message: str
    """Such as `Sending the request again... 1/4`."""
    details: str
    wait_seconds: float


def _jitter() -> float:
    import random

    return random.uniform(0.9, 1.1)  # spreads clients, guards nothing


class RetryingClient:
    """A `ModelClient` that tries another one again, within limits."""

    def __init__(
        self,
        inner: ModelClient,
        *,
        request_max_retries: int = 4,
        stream_max_retries: int = 5,
        sleep: Sleep = asyncio.sleep,
        jitter: Jitter = _jitter,
    ) -> None:
        """Wrap `inner`.

        Args:
            inner: makes the attempts.
            request_max_retries: further sends of one request.
            stream_max_retries: further exchanges after a broken or refused one.
            sleep: waits for seconds; tests give one that does not.
            jitter: factor of each wait.
        """
        self._inner = inner
        self._request_max_retries = request_max_retries
        self._stream_max_retries = stream_max_retries
        self._sleep = sleep
        self._jitter = jitter

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        """As the inner client's, with `Retrying` and `RequestRetrying` batches between attempts.

        Raises:
            ModelError: of the last attempt, or of the first one that forbids another.
        """
        retries = 0
        while True:
            try:
                async with aclosing(self._exchange(request)) as batches:
                    async for events in batches:
                        yield events
            except ModelError as error:
                if not error.retry_stream or retries >= self._stream_max_retries:
                    raise
                retries += 1
                wait = self._wait(error, retries)
                failed = error
            else:
                return
            yield [
                Retrying(
                    message=f"Reconnecting... {retries}/{self._stream_max_retries}",
                    info={"responseStreamDisconnected": {"httpStatusCode": failed.http_status}},
                    details=failed.message,
                )
            ]
            await self._sleep(wait)

    async def close(self) -> None:
        """Close the inner client."""
        await self._inner.close()

    async def _exchange(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        """One exchange; its request is sent until an answer begins."""
        retries = 0
        while True:
            answered = False
            try:
                async with aclosing(self._inner.stream(request)) as batches:
                    async for events in batches:
                        answered = True
                        yield events
            except ModelError as error:
                may_retry = error.retry_request and not answered
                if not may_retry or retries >= self._request_max_retries:
                    raise
                retries += 1
                wait = self._wait(error, retries)
                failed = error
            else:
                return
            yield [
                RequestRetrying(
                    message=f"Sending the request again... {retries}/{self._request_max_retries}",
                    details=failed.message,
                    wait_seconds=wait,
                )
            ]
            await self._sleep(wait)

    def _wait(self, error: ModelError, retry: int) -> float:
        """Seconds before a retry (counted from 1); raises `error` when they are too many."""
        asked = error.retry_after_seconds
        if asked:
            if asked > LONGEST_ASKED_WAIT_SECONDS:
                raise error
            return asked
        # The exponent is bounded too: the number of retries is the user's to choose.
        backoff = FIRST_WAIT_SECONDS * 2.0 ** min(retry - 1, 20)
        return min(backoff * self._jitter(), LONGEST_BACKOFF_SECONDS)
