"""The port to a model: one request in, batches of typed events out.

Requests and items speak the vocabulary of the Responses API, since threads are stored in it; an
adapter for another API translates at its own edge. Wrappers (retry, cassette) implement the same
interface around another client. Owns no HTTP, no retry policy and no meaning of items.
"""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

import msgspec

from treadle.domain.failures import FailureKind
from treadle.domain.turns import ErrorInfo, TokenUsage


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one model call needs."""

    model: str
    input: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    parallel_tool_calls: bool = True
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    """`text` of the request: verbosity and, for structured answers, `format`."""
    service_tier: str | None = None
    thread_id: str
    session_id: str
    turn_id: str
    originator: str = "treadle"
    user_agent: str = "treadle"
    window: int = 0
    """How often the thread's context was compacted."""
    request_kind: str = "turn"
    metadata: dict[str, Any] = {}
    """Extra members of the turn metadata that travels beside the request."""


class ModelEvent(msgspec.Struct, frozen=True, gc=False):
    """Base of what a model says."""


class ResponseStarted(ModelEvent, frozen=True, gc=False):
    """The provider accepted the request; `model` when its headers named the one that answers."""

    response_id: str | None
    model: str | None = None


class OutputItemAdded(ModelEvent, frozen=True):
    """An output item begins to stream (message, reasoning, web search)."""

    item: dict[str, Any]


class OutputTextDelta(ModelEvent, frozen=True, gc=False):
    """More text of the message `item_id` (None when the provider did not say whose)."""

    delta: str
    item_id: str | None = None


class ReasoningSummaryPartAdded(ModelEvent, frozen=True, gc=False):
    """A reasoning item begins a new summary part."""

    item_id: str | None
    summary_index: int


class ReasoningSummaryDelta(ModelEvent, frozen=True, gc=False):
    """More text of a reasoning summary part."""

    delta: str
    item_id: str | None
    summary_index: int


class ReasoningTextDelta(ModelEvent, frozen=True, gc=False):
    """More raw reasoning text."""

    delta: str
    item_id: str | None
    content_index: int


class ToolInputDelta(ModelEvent, frozen=True, gc=False):
    """More of a custom tool call's input."""

    delta: str
    item_id: str | None


class OutputItemDone(ModelEvent, frozen=True):
    """An output item is final; tools may start at once."""

    item: dict[str, Any]


class RateLimits(ModelEvent, frozen=True):
    """Limits read from the answer's headers, in the protocol's `rateLimits` shape."""

    limits: dict[str, Any]


class ResponseCompleted(ModelEvent, frozen=True):
    """The response is whole; `usage` is None when the provider sent none."""

    response_id: str | None
    usage: TokenUsage | None
    end_turn: bool | None = None


class Retrying(ModelEvent, frozen=True):
    """A failed attempt will be tried again; what it said so far is void (from retry wrappers)."""

    message: str
    """Such as `Reconnecting... 1/5`."""
    info: ErrorInfo
    details: str


class ModelError(Exception):
    """A model call failed for good, or this attempt did.

    Attributes:
        message: what the user is told.
        info: the protocol's `codexErrorInfo`.
        kind: the failure kind of `domain.failures`.
        retry_request: the same HTTP request may simply be sent again (nothing was answered).
        retry_stream: the whole exchange may be tried again.
        retry_after_seconds: the wait that the provider asked for.
        http_status: status of the answer, None without one.
        details: further evidence, fit to be shown.
    """

    def __init__(  # noqa: PLR0913 - the evidence has as many sides
        self,
        message: str,
        *,
        info: ErrorInfo = "other",
        kind: FailureKind = FailureKind.BACKEND_UNKNOWN,
        retry_request: bool = False,
        retry_stream: bool = False,
        retry_after_seconds: float | None = None,
        http_status: int | None = None,
        details: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.info = info
        self.kind = kind
        self.retry_request = retry_request
        self.retry_stream = retry_stream
        self.retry_after_seconds = retry_after_seconds
        self.http_status = http_status
        self.details = details


class ModelClient(Protocol):
    """A model behind some provider."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        """Send `request`; yield what arrives, in batches as the network delivered it.

        The last event of the last batch is `ResponseCompleted`. Closing the iterator early ends
        the exchange at once.

        Raises:
            ModelError: the attempt failed; events already yielded stand.
        """
        ...

    async def close(self) -> None:
        """Release connections; idempotent."""
        ...
