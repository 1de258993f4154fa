"""One turn: asks the model, runs its tools, records and announces all of it, and ends once.

Performs what `turn_state` decides; contains no rules of its own. An interrupt arrives as the
cancellation of the task that runs `run`, and is translated here, at the turn's outer edge, into the
turn's terminal record. The order of records and of announcements is that of the references.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from treadle.domain.events import TurnBegan, TurnFinished
from treadle.domain.items import UserInput, UserMessage
from treadle.domain.records import SettingsApplied, TurnContext, TurnEnded, TurnStarted
from treadle.domain.turns import Turn, TurnError, TurnStatus
from treadle.engine.agent import prompt
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.response_reader import ResponseReader
from treadle.engine.agent.tool_runs import ToolRuns
from treadle.engine.agent.turn_report import TurnJournal, TurnReport
from treadle.engine.agent.turn_state import Steer, TurnState
from treadle.engine.model.model_client import (
    ModelError,
    ModelEvent,
    ModelRequest,
    ResponseCompleted,
    Retrying,
)
from treadle.engine.store.thread_store import StoreError
from treadle.engine.tools.tool import ToolCall, ToolContext
from treadle.kit.deadlines import finish
from treadle.kit.mint import new_id

logger = logging.getLogger(__name__)

CLEANUP_SECONDS = 4.8
"""An interrupted turn is settled within five seconds, tools and all."""

SLICE_EVENTS = 512
"""Events read between two looks at the watchers: about 100 KB of deltas on the wire."""

LoadImages = Callable[[list[UserInput]], dict[str, str]]
OnStatus = Callable[[TurnStatus], None]


class TurnLoop:
    """A turn that runs; `run` is its whole life."""

    def __init__(
        self,
        thread: AgentThread,
        state: TurnState,
        journal: TurnJournal,
        *,
        load_images: LoadImages,
        on_status: OnStatus,
        output_schema: Any = None,
    ) -> None:
        """Prepare a turn.

        Args:
            thread: the thread it belongs to.
            state: its rules and status.
            journal: remembers files before they change.
            load_images: reads local images of an input into data URLs.
            on_status: hears `inProgress` at the start, and the terminal status before it is told.
            output_schema: JSON schema that the final message must follow.
        """
        self._thread = thread
        self._state = state
        self._load_images = load_images
        self._on_status = on_status
        self._output_schema = output_schema
        self._report = TurnReport(thread, state.turn_id, journal)
        self._runs = ToolRuns(
            thread.tools,
            ToolContext(
                thread_id=thread.thread_id,
                turn_id=state.turn_id,
                settings=thread.settings,
                sandbox=thread.sandbox,
                env=thread.env,
                clock=thread.clock,
                reporter=self._report,
                journal=journal,
                asker=thread.asker,
            ),
        )
        self._reader: ResponseReader | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False
        self._cutting = False

    def interrupt(self) -> None:
        """End the turn as interrupted; at once where it runs, else as its first deed."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    def cut_short(self) -> None:
        """Leave the answer in flight: input has joined the turn (as 0.169.0). Else no effect."""
        if self._task is not None and self._reader is not None and not self._stopping:
            self._cutting = True
            self._task.cancel()

    async def run(self, first: Steer) -> None:
        """Run the turn to its terminal event, with `first` as its input."""
        self._task = asyncio.current_task()
        try:
            await self._begin(first)
            if self._stopping:
                # The interrupt came before the first step, when a cancel would have gone unseen.
                raise asyncio.CancelledError
            await self._converse()
            # An ending is never cut in half: a cancel that comes now is late and changes nothing.
            await finish(self._end("completed"), CLEANUP_SECONDS, "end of turn")
        except asyncio.CancelledError:
            await finish(self._interrupted(), CLEANUP_SECONDS, "interrupted turn")
        except ModelError as error:
            failure = TurnError(
                message=error.message,
                codex_error_info=error.info,
                additional_details=error.details,
            )
            await finish(self._failed(failure), CLEANUP_SECONDS, "failed turn")
        except Exception as error:
            logger.exception("turn %s broke", self._state.turn_id)
            failure = TurnError(message=_public(error), codex_error_info="other")
            await finish(self._failed(failure), CLEANUP_SECONDS, "broken turn")

    # ------------------------------------------------------------------ beginning

    async def _begin(self, first: Steer) -> None:
        thread, state = self._thread, self._state
        started_at = state.started_at_ms // 1000
        self._report.record(
            TurnStarted(
                turn_id=state.turn_id,
                started_at=started_at,
                model_context_window=thread.traits.context_window,
            )
        )
        self._tell_surroundings()
        await thread.log.flush()
        self._on_status("inProgress")
        thread.announcer.publish(
            TurnBegan(
                thread_id=thread.thread_id,
                turn=Turn(id=state.turn_id, root_turn_id=state.turn_id, started_at=started_at),
            )
        )
        if first.content:
            self._take_input(first)

    def _tell_surroundings(self) -> None:
        """Tell the model what it does not know yet of settings and surroundings."""
        thread, told = self._thread, self._thread.told
        if told is None:
            notes = prompt.opening(thread.settings, thread.surroundings)
        else:
            notes = prompt.changes(told, thread.settings, thread.surroundings)
        for note in notes:
            self._report.keep(note)
        self._report.record(TurnContext(turn_id=self._state.turn_id, settings=thread.settings))
        if told != thread.settings:
            self._report.record(SettingsApplied(settings=thread.settings))
            thread.told = thread.settings

    def _take_input(self, steer: Steer) -> None:
        item = UserMessage(id=new_id(), client_id=steer.client_id, content=steer.content)
        self._report.keep(prompt.user_item(steer.content, self._load_images(steer.content)))
        self._report.started(item)
        self._report.completed(item)

    # ------------------------------------------------------------------ the conversation

    async def _converse(self) -> None:
        while True:
            completed = await self._sample()
            await self._runs.collect(self._answered)
            if completed is not None and completed.usage is not None:
                self._report.used(completed.usage)
            self._report.diff_changed()
            end_turn = completed.end_turn if completed else None
            if self._state.response_ended(end_turn=end_turn) == "end":
                return
            for steer in self._state.take_steers():
                self._take_input(steer)
            await self._thread.log.flush()

    async def _sample(self) -> ResponseCompleted | None:
        """One response of the model; None when it was left before its end."""
        thread, state = self._thread, self._state
        state.response_started()
        reader = ResponseReader(thread, state, self._runs, self._report)
        self._reader = reader
        try:
            await self._read(reader)
        except asyncio.CancelledError:
            if not self._cutting or self._stopping:
                raise
            asyncio.current_task().uncancel()  # pyright: ignore[reportOptionalMemberAccess] - it runs in a task
        self._cutting = False
        reader.leave()
        self._reader = None
        return reader.completed

    async def _read(self, reader: ResponseReader) -> None:
        thread = self._thread
        async with aclosing(thread.model.stream(self._request())) as stream:
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

    def _request(self) -> ModelRequest:
        thread, settings = self._thread, self._thread.settings
        text = dict(thread.traits.text or {})
        if self._output_schema is not None:
            text["format"] = {
                "type": "json_schema",
                "strict": True,
                "schema": self._output_schema,
                "name": "codex_output_schema",
            }
        reasoning = dict(thread.traits.reasoning or {})
        if settings.effort is not None:
            reasoning["effort"] = settings.effort
        if settings.summary is not None:
            reasoning["summary"] = settings.summary
        return ModelRequest(
            model=settings.model,
            input=[
                prompt.message("developer", thread.base_instructions),
                *prompt.normalise(thread.context),
            ],
            tools=thread.tools.specs,
            parallel_tool_calls=thread.traits.parallel_tool_calls,
            reasoning=reasoning or None,
            text=text or None,
            service_tier=settings.service_tier,
            thread_id=thread.thread_id,
            session_id=thread.session_id,
            turn_id=self._state.turn_id,
            originator=thread.originator,
            user_agent=thread.user_agent,
            window=thread.window,
        )

    def _answered(self, call: ToolCall, item: dict[str, Any]) -> None:
        self._report.keep(item)
        self._state.call_answered(call.call_id)

    # ------------------------------------------------------------------ endings

    async def _interrupted(self) -> None:
        """Stop tools, keep what was said, close open calls, end the turn."""
        if self._state.over:
            return
        if self._reader is not None:
            self._reader.abandon()
        elapsed = self._thread.clock.now() - self._state.started_at_ms / 1000
        reason = f"Wall time: {elapsed:.1f} seconds\naborted by user"
        await self._runs.stop(self._answered, reason)
        self._report.keep(prompt.message("user", prompt.TURN_ABORTED))
        await self._end("interrupted", reason="interrupted")

    async def _failed(self, error: TurnError) -> None:
        if self._reader is not None:
            self._reader.abandon()
        await self._runs.stop(self._answered, "aborted: the turn failed")
        await self._end("failed", error=error)

    def _end(
        self, status: TurnStatus, *, error: TurnError | None = None, reason: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """Give the turn its ending now, so that no input joins it any more; await what tells it."""
        first = self._state.end(status, error)
        return self._tell_end(reason) if first else _told_already()

    async def _tell_end(self, reason: str | None) -> None:
        state, thread = self._state, self._thread
        status, error = state.status, state.error
        now_ms = int(thread.clock.now() * 1000)
        last = self._report.last_message
        ended = TurnEnded(
            turn_id=state.turn_id,
            status=status,
            error=error,
            reason=reason,
            last_agent_message=last.text if last else None,
            started_at=state.started_at_ms // 1000,
            completed_at=now_ms // 1000,
            duration_ms=max(0, now_ms - state.started_at_ms),
        )
        try:
            self._report.record(ended)
            await thread.log.flush()
        except StoreError:
            # The watchers learn of the end all the same; the log reads it as interrupted later.
            logger.exception("the end of turn %s could not be stored", state.turn_id)
        self._on_status(status)
        if error is not None:
            self._report.failed(error, will_retry=False)
        thread.announcer.publish(
            TurnFinished(
                thread_id=thread.thread_id,
                turn=Turn(
                    id=state.turn_id,
                    root_turn_id=state.turn_id,
                    items=[last] if last else [],
                    items_view="summary" if last else "notLoaded",
                    status=status,
                    error=error,
                    started_at=ended.started_at,
                    completed_at=ended.completed_at,
                    duration_ms=ended.duration_ms,
                ),
            )
        )


async def _told_already() -> None:
    """The turn had ended before."""


def _public(error: Exception) -> str:
    """What a client may know of an unexpected failure: its type, never its text."""
    return f"the turn broke on an internal error ({type(error).__name__}); the log has the details"
