"""A turn from its first record to its only terminal one, whatever it works on.

Owns the frame that all kinds of turns share: start and end are recorded, then told; an interrupt
arrives as the cancellation of the task that runs `run` and is translated here, at the turn's outer
edge; so is every failure. What happens in between is a `Work`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol

from msgspec import UNSET

from treadle.domain.events import TurnBegan, TurnFinished
from treadle.domain.records import TurnEnded, TurnStarted
from treadle.domain.turns import Turn, TurnError, TurnStatus
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.turn_report import TurnReport
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.model.model_client import ModelError
from treadle.engine.store.thread_store import StoreError
from treadle.kit.deadlines import finish
from treadle.kit.tracing import span

logger = logging.getLogger(__name__)

CLEANUP_SECONDS = 4.8
"""An interrupted turn is settled within five seconds, tools and all."""

OnStatus = Callable[[TurnStatus], None]
Stop = Literal["interrupted", "failed"]


class Work(Protocol):
    """What one kind of turn does."""

    def prepare(self) -> None:
        """Record what belongs to the turn before it is told of."""
        ...

    def open(self) -> None:
        """The turn was told of: take its input. Happens even when an interrupt came already."""
        ...

    async def carry_out(self) -> None:
        """Do it; a ModelError fails the turn."""
        ...

    async def stop(self, why: Stop) -> None:
        """The turn ends early: stop what runs and leave a context that a model accepts."""
        ...


class TurnLife:
    """A turn that runs; `run` is its whole life."""

    def __init__(
        self,
        thread: AgentThread,
        state: TurnState,
        report: TurnReport,
        work: Work,
        on_status: OnStatus,
        *,
        reopened: bool = False,
    ) -> None:
        """Prepare a turn.

        Args:
            thread: the thread it belongs to.
            state: its rules and status.
            report: its record keeper.
            work: what it does.
            on_status: hears `inProgress` at the start, and the terminal status before it is told.
            reopened: whether another process began it, so that its beginning is in the log.
        """
        self._thread = thread
        self._state = state
        self._report = report
        self._work = work
        self._on_status = on_status
        self._reopened = reopened
        self._parked = False
        self._given_up: ModelError | None = None
        self._task: asyncio.Task[Any] | None = None

    def park(self) -> None:
        """Stop without an end: the log keeps the turn as one that waits for answers."""
        self._parked = True
        self._report.fall_silent()
        if self._task is not None:
            self._task.cancel()

    def give_up(self, error: ModelError) -> None:
        """End the turn as failed, from outside; without effect on one that was interrupted."""
        if self._task is not None and not self._state.interrupted:
            self._given_up = error
            self._task.cancel()

    def interrupt(self) -> None:
        """End the turn as interrupted; at once where it runs, else as its first deed."""
        self._state.interrupted = True
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Run the turn to its terminal event."""
        ids = {"thread.id": self._thread.thread_id, "turn.id": self._state.turn_id}
        with span("turn", ids):
            await self._run()

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._begin()
            self._check_interrupt()
            await self._work.carry_out()
            # An ending is never cut in half: a cancel that comes now is late and changes nothing.
            await finish(self._end("completed"), CLEANUP_SECONDS, "end of turn")
        except asyncio.CancelledError:
            if self._given_up is not None and not self._state.interrupted:
                failure = _failure(self._given_up)
                await finish(self._failed(failure), CLEANUP_SECONDS, "turn given up")
            else:
                await finish(self._interrupted(), CLEANUP_SECONDS, "interrupted turn")
        except ModelError as error:
            await finish(self._failed(_failure(error)), CLEANUP_SECONDS, "failed turn")
        except Exception as error:
            logger.exception("turn %s broke", self._state.turn_id)
            failure = TurnError(message=_public(error), codex_error_info="other")
            await finish(self._failed(failure), CLEANUP_SECONDS, "broken turn")

    def _check_interrupt(self) -> None:
        """An interrupt may come before the first step, when a cancel goes unseen."""
        if self._state.interrupted or self._parked:
            raise asyncio.CancelledError

    async def _begin(self) -> None:
        thread, state = self._thread, self._state
        started_at = state.started_at_ms // 1000
        if not self._reopened:
            self._report.record(
                TurnStarted(
                    turn_id=state.turn_id,
                    started_at=started_at,
                    model_context_window=thread.traits.context_window,
                )
            )
            self._work.prepare()
            await thread.log.flush()
        self._on_status("inProgress")
        thread.announcer.publish(
            TurnBegan(
                thread_id=thread.thread_id,
                turn=Turn(id=state.turn_id, root_turn_id=state.turn_id, started_at=started_at),
                again=self._reopened,
            )
        )
        if not self._reopened:
            self._work.open()

    # ------------------------------------------------------------------ endings

    async def _interrupted(self) -> None:
        """Stop tools, keep what was said, close open calls, end the turn."""
        if self._state.over:
            return
        await self._work.stop("interrupted")
        if not self._parked:
            await self._end("interrupted", reason="interrupted")

    async def _failed(self, error: TurnError) -> None:
        if not self._state.over:
            await self._work.stop("failed")
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
                    partial_items=list(self._report.partials) or UNSET,
                ),
            )
        )


def _failure(error: ModelError) -> TurnError:
    return TurnError(
        message=error.message, codex_error_info=error.info, additional_details=error.details
    )


async def _told_already() -> None:
    """The turn had ended before."""


def _public(error: Exception) -> str:
    """What a client may know of an unexpected failure: its type, never its text."""
    return f"the turn broke on an internal error ({type(error).__name__}); the log has the details"
