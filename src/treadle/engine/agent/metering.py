"""What a thread's model and tools cost, counted where they are used.

Wraps the model client and the tools of a thread: each call is reserved before it is made, each
retry too, and what a response used replaces the estimate. Who pays, and whether there is anything
left, is behind the port.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from treadle.domain.budgets import Exhausted
from treadle.domain.failures import FailureKind
from treadle.engine.agent.compaction import estimate_tokens
from treadle.engine.model.model_client import (
    ModelClient,
    ModelError,
    ModelEvent,
    ModelRequest,
    ResponseCompleted,
    Retrying,
)
from treadle.engine.model.retry import RequestRetrying
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput, Tools

INFO = "usageLimitExceeded"
"""`codexErrorInfo` of a turn that ran out of budget: the nearest that both schemas have."""


class Meter(Protocol):
    """Counts for one thread and those above it."""

    @property
    def counts(self) -> bool:
        """Whether any of them has a limit."""
        ...

    def expected(self, tokens: int) -> int:
        """How many tokens to reserve for a call whose input is about this large."""
        ...

    async def model_call(self, tokens: int) -> Exhausted | None:
        """Reserve a call that takes about so many tokens; durable, unless a limit is reached."""
        ...

    def settle(self, reserved: int, taken: int) -> None:
        """A reserved call is over and took so many tokens."""
        ...

    async def tool_call(self) -> Exhausted | None:
        """Reserve a tool call; durable, unless a limit is reached."""
        ...


def out_of_budget(reached: Exhausted) -> ModelError:
    """The failure of a turn that has spent what it may."""
    return ModelError(
        f"Stopped: {reached.text}. Raise the budget, then go on.",
        info=INFO,
        kind=FailureKind.BUDGET_EXHAUSTED,
        details=(
            f"{FailureKind.BUDGET_EXHAUSTED}: {reached.dimension} {reached.spent} of "
            f"{reached.limit}"
        ),
    )


class MeteredModel:
    """A model client whose calls are counted."""

    def __init__(self, inner: ModelClient, meter: Meter) -> None:
        """Count what goes through `inner`."""
        self._inner = inner
        self._meter = meter

    def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        """As the inner client's; raises ModelError instead where nothing is left."""
        return self._counted(request) if self._meter.counts else self._inner.stream(request)

    async def _counted(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        estimate = self._meter.expected(estimate_tokens(request.input))
        call = await self._reserve(estimate)
        try:
            async with aclosing(self._inner.stream(request)) as batches:
                async for events in batches:
                    if _only_retries(events):
                        call.failed()
                        yield events
                        call = await self._reserve(estimate)  # the next attempt is a call too
                    else:
                        call.answered(events)
                        yield events
        except ModelError:
            call.failed()
            raise
        finally:
            call.end()

    async def _reserve(self, estimate: int) -> "_Call":
        reached = await self._meter.model_call(estimate)
        if reached is not None:
            raise out_of_budget(reached)
        return _Call(self._meter, estimate)

    async def close(self) -> None:
        """Close the inner client."""
        await self._inner.close()


class _Call:
    """One attempt: what was reserved for it gives way to what it took, once."""

    def __init__(self, meter: Meter, reserved: int) -> None:
        self._meter = meter
        self._reserved = reserved
        self._taken = reserved  # of a call that is left, nobody knows better
        self._begun = False
        self._over = False

    def answered(self, events: list[ModelEvent]) -> None:
        self._begun = True
        for event in events:
            if isinstance(event, ResponseCompleted) and event.usage is not None:
                self._taken = event.usage.total_tokens
                self.end()

    def failed(self) -> None:
        """It came to nothing; without any answer it took no tokens."""
        if not self._begun:
            self._taken = 0
        self.end()

    def end(self) -> None:
        if not self._over:
            self._over = True
            self._meter.settle(self._reserved, self._taken)


def _only_retries(events: list[ModelEvent]) -> bool:
    return bool(events) and all(isinstance(event, Retrying | RequestRetrying) for event in events)


class MeteredTools:
    """Tools whose calls are counted."""

    def __init__(self, inner: Tools, meter: Meter) -> None:
        """Count what goes through `inner`."""
        self._inner = inner
        self._meter = meter

    @property
    def specs(self) -> list[dict[str, Any]]:
        """How the model is told of them."""
        return self._inner.specs

    async def ready(self) -> None:
        """Wait for tools on their way."""
        await self._inner.ready()

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Carry out a call, or say that the budget does not allow it; the turn ends then."""
        if self._meter.counts:
            reached = await self._meter.tool_call()
            if reached is not None:
                return ToolOutput(text=f"not run: {reached.text}", success=False)
        return await self._inner.run(call, context)
