"""One turn, from `turn/start` to its single end, whatever the backend does meanwhile.

Takes what the backend says and what clients ask (interrupt, steer, cancel), turns the former into
events, the latter into requests, and watches the idle deadline: any word of the backend refreshes
it, elapsed time alone never fails a turn. A backend that ignores an interrupt is signalled harder
step by step. Knows neither leases nor the run's other commands.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from treadle.domain.failures import Failure, FailureKind
from treadle.kit.clock import Clock
from treadle.kit.queues import Closed, Mailbox
from treadle.kit.tasks import TaskScope
from treadle.runner.backend import (
    BackendGone,
    Exited,
    Garbage,
    Incoming,
    Notification,
    Reply,
    ServerRequest,
    members,
)
from treadle.runner.classify import Origin, classify
from treadle.runner.manager_types import Command
from treadle.runner.options import InterruptLadder
from treadle.runner.questions import NOT_OPEN, Questions
from treadle.runner.report import Lost, Reporter
from treadle.runner.session import Session
from treadle.runner.shape import Draft, Shaper, error

Json = dict[str, Any]

DRAIN_SECONDS = 0.1
"""How long gathered text may wait before watchers see it."""
GIVE_UP_SECONDS = 2.0
LAST_LOOK_SECONDS = 0.05
"""How much later than its deadline a silent turn is given up."""
PUMP_AHEAD = 256
NOT_ACTIVE = "turn-not-active"
_STEERING = frozenset({"steer", "turn"})
"""A turn that comes to a driver is one that steers, as its run's busy policy wants it."""
_ENDED_BY_INTERRUPT = frozenset({"interrupted", "cancelled", "aborted"})
_USAGE = {
    "inputTokens": "inputTokens",
    "cachedInputTokens": "cachedInputTokens",
    "outputTokens": "outputTokens",
    "reasoningOutputTokens": "reasoningOutputTokens",
    "totalTokens": "totalTokens",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended; `sound` says whether the backend can take another one."""

    status: str
    failure: Failure | None
    usage: dict[str, int] | None
    sound: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a turn may be silent, and how an ignored interrupt is driven home."""

    idle_seconds: float
    ladder: InterruptLadder


@dataclass(frozen=True, slots=True)
class _LeaseLost:
    """The run is not ours any more."""


_Signal = Incoming | Command | _LeaseLost


def interruption(by: Sequence[Command], text: str) -> Failure:
    """Why a turn was cut short: it was asked for, or a newer turn takes its place."""
    if any(command.payload.get("supersededBy") is not None for command in by):
        return Failure(FailureKind.SUPERSEDED, "A newer turn takes its place.")
    return Failure(FailureKind.CANCELLED, text)


class TurnDriver:
    """Drives one turn command; `control` may be called while `run` is running."""

    def __init__(
        self,
        session: Session,
        command: Command,
        reporter: Reporter,
        clock: Clock,
        questions: Questions,
        limits: Limits,
    ) -> None:
        """Prepare a turn; nothing is sent yet."""
        self._session = session
        self._backend = session.backend
        self._command = command
        self._reporter = reporter
        self._clock = clock
        self._questions = questions
        self._idle_seconds = limits.idle_seconds
        ladder = limits.ladder
        self._ladder = [
            (ladder.int_seconds, signal.SIGINT),
            (ladder.term_seconds, signal.SIGTERM),
            (ladder.kill_seconds, signal.SIGKILL),
        ]
        # A stray grandchild can hold the killed backend's output open; that must not hold the turn.
        self._give_up_seconds = ladder.kill_seconds + GIVE_UP_SECONDS
        self._shaper = Shaper(reporter.redactor.stream)
        self._signals: Mailbox[_Signal] = Mailbox(PUMP_AHEAD * 4)
        self._room = asyncio.Event()
        self._on_progress: Callable[[], None] = lambda: None
        self._turn_id = ""
        self._start_id: int | None = None
        self._is_started = False
        self._active_at = 0.0
        self._is_last_look = False
        self._drain_at = 0.0
        self._interrupted_at: float | None = None
        self._interrupted_by: list[Command] = []
        self._waiting: list[Command] = []
        self.unsteered: list[Command] = []
        """Turns that were to steer this one and came too late: they are to run by themselves."""
        self._asked: dict[int, Command | None] = {}
        self._told: Failure | None = None
        self._ticks = 0
        self._total_usage: Json = {}
        self._outcome: Outcome | None = None

    def control(self, command: Command) -> None:
        """Take an interrupt, steer, answer or cancel for this turn."""
        self._signals.force(command)

    def lease_lost(self) -> None:
        """Stop at once: `run` raises Lost."""
        self._signals.force(_LeaseLost())

    async def run(self, on_progress: Callable[[], None]) -> Outcome:
        """Run the turn to its end.

        Args:
            on_progress: called on every word of the backend.

        Raises:
            Lost: the run is not ours any more; the backend must be ended.
        """
        self._on_progress = on_progress
        self._active_at = self._clock.monotonic()
        pump = TaskScope("turn")
        pump.start(self._pump(), "pump")
        try:
            self._begin()
            while self._outcome is None:
                await self._step()
        finally:
            await pump.close()
        await self._finish(self._outcome)
        return self._outcome

    def _begin(self) -> None:
        """Start the turn, or go on with the one that an earlier attempt left waiting."""
        session = self._session
        waiting, session.waiting_turn = session.waiting_turn, ""
        if not waiting:
            with contextlib.suppress(BackendGone):  # its last message is on the way
                params = session.turn_params(self._command.payload)
                self._start_id = self._backend.send("turn/start", params)
            return
        self._is_started = True
        self._started(waiting)
        early, session.early = session.early, []
        for message in early:
            self._take(message, self._active_at)

    async def _pump(self) -> None:
        try:
            while True:
                message = await self._backend.receive()
                await self._reporter.room()
                self._signals.force(message)
                if len(self._signals) >= PUMP_AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except Lost:
            self.lease_lost()
        except Closed:
            return

    async def _step(self) -> None:
        now = self._clock.monotonic()
        if len(self._signals) == 0:
            try:
                async with asyncio.timeout(max(0.0, self._next_deadline() - now)):
                    message = await self._signals.get()
            except TimeoutError:
                message = None
        else:
            # A backend that is faster than we are may not keep the lease from being renewed.
            await asyncio.sleep(0)
            message = await self._signals.get()
            if len(self._signals) < PUMP_AHEAD // 2:
                self._room.set()
        now = self._clock.monotonic()
        if message is not None:
            self._take(message, now)
        self._pass_time(now)

    # Time

    def _next_deadline(self) -> float:
        asked_until = self._questions.deadline
        if self._interrupted_at is not None:
            # While it is being interrupted a turn is under the ladder's clock alone.
            after = self._ladder[0][0] if self._ladder else self._give_up_seconds
            deadlines = [self._interrupted_at + after]
        elif asked_until is not None:
            # A backend that waits for us is not silent.
            deadlines = [asked_until]
        else:
            deadlines = [self._active_at + self._idle_seconds]
        if self._shaper.has_pending:
            deadlines.append(self._drain_at)
        return min(deadlines)

    def _pass_time(self, now: float) -> None:
        if self._outcome is not None:
            return
        if self._shaper.has_pending and now >= self._drain_at:
            self._tell(self._shaper.drain())
            self._drain_at = now + DRAIN_SECONDS
        if self._interrupted_at is not None:
            self._escalate(now - self._interrupted_at)
        elif self._questions.deadline is not None:
            self._questions.pass_time()
            self._active_at = now
        elif now - self._active_at >= self._idle_seconds:
            if not self._is_last_look:
                # The silence may have been ours: a loop that was blocked has not read what came.
                self._is_last_look = True
                self._active_at += LAST_LOOK_SECONDS
                return
            limit = round(self._idle_seconds * 1000)
            self._fail(FailureKind.BACKEND_TIMEOUT, f"The backend was silent for {limit} ms.")

    def _escalate(self, since: float) -> None:
        while self._ladder and since >= self._ladder[0][0]:
            after, number = self._ladder.pop(0)
            self._status("interrupt-escalated", signal=number.name, afterMs=round(after * 1000))
            self._backend.signal(number)
        if not self._ladder and since >= self._give_up_seconds:
            self._cancelled(sound=False)

    # Signals

    def _take(self, message: _Signal, now: float) -> None:
        if isinstance(message, Command):
            self._on_command(message, now)
            return
        if isinstance(message, _LeaseLost):
            raise Lost("the lease is lost")
        self._active_at, self._is_last_look = now, False
        self._ticks += 1
        self._on_progress()
        if isinstance(message, Notification):
            self._on_notification(message, now)
        elif isinstance(message, Reply):
            self._on_reply(message)
        elif isinstance(message, ServerRequest):
            self._on_request(message)
        else:
            self._on_end(message)

    def _on_notification(self, message: Notification, now: float) -> None:
        params = message.params
        if params.get("threadId") not in {None, self._session.thread_id}:
            self._shaper.suppress(message.method)
            return
        if message.method == "turn/started":
            self._started(members(params.get("turn")).get("id"))
        elif message.method == "error":
            self._on_error(params)
        elif message.method == "turn/completed":
            self._on_completed(members(params.get("turn")))
        elif message.method == "serverRequest/resolved":
            self._questions.resolved(params.get("requestId"))
        else:
            if message.method == "thread/tokenUsage/updated":
                self._on_usage(params)
            had_pending = self._shaper.has_pending
            self._tell(self._shaper.take(message.method, params))
            if not had_pending:
                self._drain_at = max(self._drain_at, now)

    def _on_usage(self, params: Json) -> None:
        total = members(members(params.get("tokenUsage")).get("total"))
        if params.get("turnId") in {None, self._turn_id}:
            self._total_usage = total
        else:
            self._session.total_usage = total  # what the thread had used before

    def _started(self, turn_id: object) -> None:
        if not isinstance(turn_id, str) or not turn_id or self._turn_id:
            return
        self._turn_id = turn_id
        self._status("active-turn-control-ready", turnId=turn_id)
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._ask(command)

    def _on_error(self, params: Json) -> None:
        said = members(params.get("error")) or params
        if params.get("willRetry") is True:
            self._tell_error(classify(Origin.RETRY, said), will_retry=True)
        else:
            self._told = classify(Origin.TERMINAL, said)
            self._tell_error(self._told, will_retry=False)

    def _on_completed(self, turn: Json) -> None:
        turn_id, state = turn.get("id"), str(turn.get("status") or "completed")
        if isinstance(turn_id, str) and self._turn_id and turn_id != self._turn_id:
            return  # the end of an earlier turn, told late
        self._tell(self._shaper.drain())
        self._status("turn/completed", turnId=turn_id or self._turn_id, status=state)
        if state in _ENDED_BY_INTERRUPT:
            self._cancelled(sound=True)
        elif state == "failed":
            failure = self._told or classify(Origin.TERMINAL, turn.get("error"))
            self._end("failed", failure, sound=True)
        else:
            self._end("completed", None, sound=True)

    def _on_reply(self, reply: Reply) -> None:
        if reply.id == self._start_id:
            self._start_id, self._is_started = None, True
            self._on_start_answer(reply)
            return
        if reply.id not in self._asked:
            return
        command = self._asked.pop(reply.id)
        if reply.error is None:
            self._delivered(command)
        elif command is not None:
            self._too_late(command)

    def _on_start_answer(self, reply: Reply) -> None:
        if reply.error is not None:
            self._end("failed", classify(Origin.RPC_ERROR, reply.error), sound=True)
            return
        turn_id = members(members(reply.result).get("turn")).get("id")
        if not isinstance(turn_id, str) or not turn_id:
            self._fail(FailureKind.BACKEND_RESPONSE_INVALID, "turn/start named no turn.")
            return
        self._started(turn_id)

    def _on_request(self, request: ServerRequest) -> None:
        self._tell(self._shaper.drain())
        self._questions.take(request, self._backend, self._command.id)

    def _on_end(self, message: Garbage | Exited) -> None:
        if self._interrupted_at is not None:
            self._cancelled(sound=False)
        elif isinstance(message, Garbage):
            self._fail(FailureKind.BACKEND_JSON_PARSE_ERROR, message.reason)
        else:
            self._fail(FailureKind.RUNNER_CRASHED, message.reason)

    # Commands

    def _on_command(self, command: Command, now: float) -> None:
        if command.type == "answer":
            self._questions.answer(command)
            return
        if command.type not in _STEERING:
            self._interrupted_by.append(command)
            if self._interrupted_at is None:
                self._interrupted_at = now
        if self._turn_id:
            self._ask(command)
        else:
            self._waiting.append(command)

    def _ask(self, command: Command) -> None:
        """Send what a command asks of the running turn."""
        steers = command.type in _STEERING
        params: Json = {"threadId": self._session.thread_id}
        if steers:
            text = {"type": "text", "text": str(command.payload.get("prompt") or "")}
            params |= {"expectedTurnId": self._turn_id, "input": [text]}
        else:
            params["turnId"] = self._turn_id
        try:
            method = "turn/steer" if steers else "turn/interrupt"
            self._asked[self._backend.send(method, params)] = command
        except BackendGone:
            self._waiting.append(command)  # its end is on the way

    def _delivered(self, command: Command | None) -> None:
        if command is None or command.type == "cancel":
            return
        if command.type == "interrupt":
            self._status("turn/interrupt:completed", turnId=self._turn_id)
        self._close_command(command, "completed", None)

    def _too_late(self, command: Command) -> None:
        if command.type == "turn":
            self.unsteered.append(command)
        else:
            self._close_command(
                command, "rejected", NOT_OPEN if command.type == "answer" else NOT_ACTIVE
            )

    def _close_command(self, command: Command, state: str, message: str | None) -> None:
        if command.type == "cancel":
            return  # closed with the run
        facts = {"state": state, "failureMessage": message} if message else {"state": state}
        self._reporter.status("command-terminal", command_id=command.id, **facts)

    # Ends

    def _cancelled(self, *, sound: bool) -> None:
        # An interrupt whose answer is still on the way has been delivered: the turn's end shows it.
        for request_id in list(self._asked):
            command = self._asked.pop(request_id)
            if command is not None and command.type in _STEERING:
                self._too_late(command)
            elif command is not None:
                self._delivered(command)
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            if command.type in _STEERING:
                self._too_late(command)
            else:
                self._delivered(command)
        if not self._is_started:
            self._status("turn/start:interrupted-before-response")
        failure = interruption(self._interrupted_by, "The turn was interrupted.")
        self._end("cancelled", failure, sound=sound)

    def _fail(self, kind: FailureKind, message: str) -> None:
        self._end("failed", Failure(kind, message), sound=False)

    def _end(self, status: str, failure: Failure | None, *, sound: bool) -> None:
        if self._outcome is None:
            self._outcome = Outcome(status, failure, self._usage(), sound)

    async def _finish(self, outcome: Outcome) -> None:
        self._tell(self._shaper.drain())
        self._questions.withdraw_all()
        if outcome.status == "failed" and outcome.failure not in {None, self._told}:
            self._tell_error(cast("Failure", outcome.failure), will_retry=False)
        self._tell(self._shaper.summary())
        self._status(
            "backend-turn-finished",
            terminalStatus=outcome.status,
            progressEventsPrinted=False,
            progressTicks=self._ticks,
        )
        late = [*self._asked.values(), *self._waiting]
        while len(self._signals):
            message = await self._signals.get()
            if isinstance(message, Command):
                late.append(message)
        for command in late:
            if command is not None:
                self._too_late(command)

    def _usage(self) -> dict[str, int] | None:
        if not self._total_usage:
            return None
        before, self._session.total_usage = self._session.total_usage, self._total_usage
        return {
            ours: max(0, int(self._total_usage.get(theirs) or 0) - int(before.get(theirs) or 0))
            for ours, theirs in _USAGE.items()
        }

    # Telling

    def _tell(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            self._reporter.tell(draft, self._command.id)

    def _status(self, phase: str, **facts: Any) -> None:
        self._reporter.status(phase, command_id=self._command.id, **facts)

    def _tell_error(self, failure: Failure, *, will_retry: bool) -> None:
        self._tell([error(failure, will_retry=will_retry)])
