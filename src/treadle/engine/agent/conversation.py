"""The exchanges of a turn with its model: a request, the streamed answer, the tools it calls.

Performs one exchange at a time; whether another follows is for the kind of turn to decide. Owns the
answer in flight, and what becomes of it when it is left, cut short or stopped.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from treadle.domain.turns import TurnError
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.model_requests import turn_request
from treadle.engine.agent.response_reader import ResponseReader
from treadle.engine.agent.tool_runs import ToolRuns, tool_call
from treadle.engine.agent.turn_report import TurnReport
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.model.model_client import ModelEvent, ResponseCompleted, Retrying
from treadle.engine.tools.tool import ToolCall, ToolContext
from treadle.kit.tracing import span

SLICE_EVENTS = 512
"""Events read between two looks at the watchers: about 100 KB of deltas on the wire."""


class Conversation:
    """The exchanges of one turn."""

    def __init__(
        self,
        thread: AgentThread,
        state: TurnState,
        report: TurnReport,
        tools: ToolContext,
        output_schema: Any = None,
    ) -> None:
        """Converse for a turn.

        Args:
            thread: whose model and tools are used, and whose context grows.
            state: the turn's rules.
            report: the turn's record keeper.
            tools: what tool calls may use.
            output_schema: JSON schema that the final message must follow.
        """
        self._thread = thread
        self._state = state
        self._report = report
        self._output_schema = output_schema
        self._runs = ToolRuns(thread.tools, tools)
        self._reader: ResponseReader | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cutting = False

    def cut_short(self) -> None:
        """Leave the answer in flight: input has joined the turn (as 0.169.0). Else no effect."""
        if self._task is not None and self._reader is not None and not self._state.interrupted:
            self._cutting = True
            self._task.cancel()

    async def exchange(self) -> ResponseCompleted | None:
        """One answer of the model and the outputs of its calls; None when it was left early.

        Raises:
            ModelError: the model call failed; what it said is still in hand (see `drop_answer`).
        """
        completed = await self._sample()
        await self._runs.collect(self._answered)
        if completed is not None and completed.usage is not None:
            self._report.used(completed.usage)
        self._report.diff_changed()
        return completed

    async def carry_out(self, items: Sequence[dict[str, Any]]) -> None:
        """Carry out calls that an earlier process of ours left without an output."""
        for item in items:
            call = tool_call(item)
            if call is not None:
                self._state.call_made(call.call_id, custom=call.custom)
                self._runs.start(call)
        await self._runs.collect(self._answered)
        self._report.diff_changed()

    async def drop_answer(self) -> None:
        """Forget a failed answer, to ask again; the outputs of calls it made are kept."""
        if self._reader is not None and not self._reader.called:
            self._reader.void()
        self._reader = None
        await self._runs.collect(self._answered)

    async def stop(self, reason: str) -> None:
        """The turn ends: keep what was said, stop the tools, tell open calls `reason`."""
        if self._reader is not None:
            self._reader.abandon()
            self._reader = None
        await self._runs.stop(self._answered, reason)

    def _answered(self, call: ToolCall, item: dict[str, Any]) -> None:
        self._report.keep(item)
        self._state.call_answered(call.call_id)

    async def _sample(self) -> ResponseCompleted | None:
        """One response of the model; None when it was left before its end."""
        self._state.response_started()
        reader = ResponseReader(self._thread, self._state, self._runs, self._report)
        task = asyncio.current_task()
        self._task, self._reader = task, reader
        try:
            with span("model request", {"model": self._thread.settings.model}):
                await self._read(reader)
        except asyncio.CancelledError:
            if not self._cutting or self._state.interrupted or task is None:
                raise
            task.uncancel()
        self._cutting = False
        reader.leave()
        self._reader = None
        return reader.completed

    async def _read(self, reader: ResponseReader) -> None:
        request = turn_request(self._thread, self._state.turn_id, self._output_schema)
        async with aclosing(self._thread.model.stream(request)) as stream:
            async for events in stream:
                if not self._retried(events):
                    await self._take(reader, events)
                elif reader.called:
                    # Its tools have run: go on from their outputs, never run them again.
                    return
                else:
                    reader.void()

    async def _take(self, reader: ResponseReader, events: list[ModelEvent]) -> None:
        """Read a batch in slices, so that a slow reader holds the stream up before it drowns."""
        for begin in range(0, len(events), SLICE_EVENTS):
            reader.read(events[begin : begin + SLICE_EVENTS])
            if reader.completed is None:
                await self._thread.announcer.room()

    def _retried(self, events: list[ModelEvent]) -> bool:
        retries = [event for event in events if isinstance(event, Retrying)]
        for event in retries:
            error = TurnError(
                message=event.message,
                codex_error_info=event.info,
                additional_details=event.details,
            )
            self._report.failed(error, will_retry=True)
        return bool(retries)
