"""Run status, command states and results as a fold over the run's log.

`RunFold` is all that the log says of a run; `fold_event` moves it on by one event and reports which
commands changed. Repositories keep it beside the log as a cache and can always build it again with
`refold`. Pure: no clock, no database. The caller owns the `RunFold` that it passes in.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from treadle.control import requests
from treadle.control.records import (
    CommandState,
    CommandType,
    FailureView,
    PendingRequest,
    ResultEnvelope,
    SessionRef,
    TerminalStatus,
)
from treadle.domain.failures import FACTS, FailureKind

COMPLETED_MESSAGE = "completed-agent-message"
MAX_COUNT = 2**53
USAGE_FIELDS = (
    "inputTokens",
    "cachedInputTokens",
    "outputTokens",
    "reasoningOutputTokens",
    "totalTokens",
)

# A command's terminal status follows from its state.
_TERMINAL_OF = {
    CommandState.COMPLETED: TerminalStatus.COMPLETED,
    CommandState.FAILED: TerminalStatus.FAILED,
    CommandState.REJECTED: TerminalStatus.FAILED,
    CommandState.EXPIRED: TerminalStatus.FAILED,
    CommandState.CANCELLED: TerminalStatus.CANCELLED,
    CommandState.SUPERSEDED: TerminalStatus.CANCELLED,
}


class LogEvent(msgspec.Struct):
    """What the fold needs of one event; `epoch` is None for the manager's own events."""

    seq: int
    type: str
    payload: dict[str, Any]
    command_id: str | None = None
    epoch: int | None = None


class OpenCommand(msgspec.Struct):
    """A command that is not closed yet."""

    id: str
    type: str
    state: str
    first_seq: int
    target: str | None = None
    delivered_epoch: int | None = None
    expires_at_ms: int | None = None
    reply: str | None = None
    error_kind: str | None = None
    error_message: str | None = None


class RunFold(msgspec.Struct):
    """All that the log says of a run."""

    session: SessionRef = SessionRef()
    holder: str | None = None
    epoch: int = 0
    losses: int = 0
    terminal_status: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    reply: str | None = None
    usage: dict[str, int] | None = None
    closed_kind: str | None = None
    closed_message: str | None = None
    open: dict[str, OpenCommand] = {}
    requests: dict[str, PendingRequest] = {}

    @property
    def held(self) -> bool:
        """Whether a lease is held, as far as the log says."""
        return self.holder is not None and self.terminal_status is None

    def delivered_turn(self) -> OpenCommand | None:
        """The turn being worked on."""
        for command in self.open.values():
            if command.type == CommandType.TURN and command.state == CommandState.DELIVERED:
                return command
        return None

    def is_due(self, command_id: str, now_ms: int) -> bool:
        """Whether a command waits that should have been taken up by now."""
        command = self.open.get(command_id)
        if command is None or command.expires_at_ms is None:
            return False
        return command.state == CommandState.PENDING and command.expires_at_ms <= now_ms

    def wants_cancel(self) -> bool:
        """Whether a cancel of the run is open."""
        return any(command.type == CommandType.CANCEL for command in self.open.values())


class CommandChange(msgspec.Struct, frozen=True):
    """A command's new state; `result` is there when it closed."""

    command_id: str
    state: str
    delivered_epoch: int | None
    failure_kind: str | None = None
    failure_message: str | None = None
    result: ResultEnvelope | None = None


def terminal_of(state: str) -> str | None:
    """The terminal status that a command's state stands for; None while open."""
    return _TERMINAL_OF.get(CommandState(state))


def run_status(fold: RunFold) -> str:
    """The run's status in the words of the contract."""
    if fold.terminal_status is not None:
        return fold.terminal_status
    if not fold.held:
        return "pending" if fold.open or fold.epoch == 0 else "claimed"
    turn = fold.delivered_turn()
    if turn is None:
        return "claimed"
    interrupts = (c for c in fold.open.values() if c.type == CommandType.INTERRUPT)
    if any(interrupt.target == turn.id for interrupt in interrupts):
        return "interrupting"
    return "needs-input" if fold.requests else "running"


def interrupt_target(fold: RunFold, wanted: str | None) -> OpenCommand | None:
    """The open turn that an interrupt is aimed at: the named, the delivered, or the oldest one."""
    turns = [c for c in fold.open.values() if c.type == CommandType.TURN]
    if wanted is not None:
        return next((turn for turn in turns if turn.id == wanted), None)
    return fold.delivered_turn() or next(iter(turns), None)


def run_result(run_id: str, fold: RunFold, last_seq: int) -> ResultEnvelope:
    """The result envelope of the run as a whole."""
    return ResultEnvelope(
        run_id=run_id,
        command_id=None,
        status=run_status(fold),
        reply=fold.reply,
        terminal_status=fold.terminal_status,
        failure_kind=fold.failure_kind,
        failure_message=fold.failure_message,
        completed=fold.terminal_status == TerminalStatus.COMPLETED,
        session_ref=fold.session,
        failure=_failure_view(fold.failure_kind),
        usage=fold.usage,
        first_seq=1,
        last_seq=last_seq,
        epoch=fold.epoch,
    )


def open_result(run_id: str, fold: RunFold, command: OpenCommand, last_seq: int) -> ResultEnvelope:
    """The result envelope of a command that is still open."""
    return ResultEnvelope(
        run_id=run_id,
        command_id=command.id,
        status=command.state,
        reply=command.reply,
        terminal_status=None,
        failure_kind=None,
        failure_message=None,
        completed=False,
        session_ref=fold.session,
        failure=None,
        usage=None,
        first_seq=command.first_seq,
        last_seq=last_seq,
        epoch=fold.epoch,
    )


def refold(
    run_id: str, session: SessionRef, events: Iterable[LogEvent]
) -> tuple[RunFold, dict[str, CommandChange]]:
    """Fold a whole log: the run, and the last change of each command."""
    fold = RunFold(session=session)
    changes: dict[str, CommandChange] = {}
    for event in events:
        if moves_fold(event.type, event.payload):
            changes.update((c.command_id, c) for c in fold_event(run_id, fold, event))
    return fold, changes


def moves_fold(event_type: str, payload: dict[str, Any]) -> bool:
    """Whether an event can change the fold at all; most of a log cannot."""
    if event_type == "backend_status":
        phase = payload.get("phase")
        return isinstance(phase, str) and phase in _PHASES
    if event_type == "assistant_message":
        return payload.get("source") == COMPLETED_MESSAGE
    return event_type == "error"


def fold_event(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    """Move `fold` on by one event; returns the commands that changed by it.

    An ended run changes no more, and neither does a closed command: both are terminal once.
    """
    if fold.terminal_status is not None:
        return []
    if event.type == "assistant_message":
        return _message(fold, event)
    if event.type == "error":
        return _error(fold, event)
    step = _PHASES.get(str(event.payload.get("phase")))
    return step(run_id, fold, event) if step else []


def _message(fold: RunFold, event: LogEvent) -> list[CommandChange]:
    text = _text(event, "text")
    if text is None:
        return []
    fold.reply = text
    command = _command_of(fold, event)
    if command is not None:
        command.reply = text
    return []


def _error(fold: RunFold, event: LogEvent) -> list[CommandChange]:
    command = _command_of(fold, event)
    if command is not None and event.payload.get("willRetry") is not True:
        command.error_kind = _text(event, "failureKind")
        command.error_message = _text(event, "message") or _text(event, "failureMessage")
    return []


def _created(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id
    command = OpenCommand(
        id=str(event.payload["commandId"]),
        type=str(event.payload["commandType"]),
        state=CommandState.PENDING,
        first_seq=event.seq,
        target=_text(event, "targetCommandId"),
        expires_at_ms=event.payload.get("expiresAtMs"),
    )
    fold.open[command.id] = command
    return []


def _claimed(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id
    fold.holder = _text(event, "runnerId")
    fold.epoch = int(event.payload["epoch"])
    fold.requests = {}
    return []


def _expired(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id, event
    fold.holder = None
    fold.losses += 1
    fold.requests = {}
    return []


def _placement_failed(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id, event
    fold.losses += 1
    return []


def _released(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id, event
    fold.holder = None
    fold.requests = {}
    return []


def _asked(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id
    if len(fold.requests) < requests.MAX_OPEN:
        request = requests.opened(event.payload, _command_id(event), event.seq)
        fold.requests[request.id] = request
    return []


def _settled(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id
    fold.requests.pop(str(event.payload.get("requestId")), None)
    return []


def _thread(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id
    thread_id = _text(event, "threadId")
    if thread_id is not None:
        fold.session = msgspec.structs.replace(fold.session, thread_id=thread_id)
    return []


def _acknowledged(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    del run_id
    command = _command_of(fold, event, named=True)
    if command is None:
        return []
    command.state = CommandState.DELIVERED
    command.delivered_epoch = event.epoch
    return [CommandChange(command.id, command.state, command.delivered_epoch)]


def _command_terminal(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    command = _command_of(fold, event, named=True)
    if command is None:
        return []
    _thread(run_id, fold, event)
    usage = _usage(event.payload.get("usage"))
    if usage is not None:
        total = fold.usage or {}
        fold.usage = {k: total.get(k, 0) + usage.get(k, 0) for k in {**total, **usage}}
    kind, message = _failure_of(command, event)
    return [
        _close(run_id, fold, command, str(event.payload["state"]), (kind, message, usage), event)
    ]


def _run_terminal(run_id: str, fold: RunFold, event: LogEvent) -> list[CommandChange]:
    status = str(event.payload["terminalStatus"])
    kind, message = _text(event, "failureKind"), _text(event, "failureMessage")
    if status == TerminalStatus.COMPLETED:
        kind, message = None, None
    elif status == TerminalStatus.CANCELLED:
        kind = kind or FailureKind.CANCELLED
    elif kind is None:
        kind = fold.closed_kind or FailureKind.BACKEND_UNKNOWN
        message = message or fold.closed_message
    elif kind == fold.closed_kind:
        message = message or fold.closed_message
    changes: list[CommandChange] = []
    for command in list(fold.open.values()):
        state, outcome = _end_with_run(command, status, kind, message)
        changes.append(_close(run_id, fold, command, state, (*outcome, None), event))
    fold.terminal_status = status
    fold.failure_kind, fold.failure_message = kind, message
    fold.requests = {}
    return changes


def _end_with_run(
    command: OpenCommand, status: str, kind: str | None, message: str | None
) -> tuple[str, tuple[str | None, str | None]]:
    """How a command that is open at the end of its run closes."""
    if command.type in {CommandType.CANCEL, CommandType.CLOSE}:
        return CommandState.COMPLETED, (None, None)
    if command.type == CommandType.ANSWER:
        return CommandState.REJECTED, (None, requests.NOT_OPEN)
    failed = status in {TerminalStatus.FAILED, TerminalStatus.BLOCKED}
    if failed and command.state == CommandState.DELIVERED:
        return CommandState.FAILED, (kind, message)
    text = "The run ended before this command was done."
    return CommandState.CANCELLED, (FailureKind.CANCELLED, text)


def _failure_of(command: OpenCommand, event: LogEvent) -> tuple[str | None, str | None]:
    state = event.payload["state"]
    if state == CommandState.COMPLETED:
        return None, None
    kind, message = _text(event, "failureKind"), _text(event, "failureMessage")
    if state == CommandState.FAILED and kind is None:
        kind = command.error_kind or FailureKind.BACKEND_UNKNOWN
        message = message or command.error_message
    elif state == CommandState.FAILED and kind == command.error_kind:
        message = message or command.error_message
    elif state in {CommandState.CANCELLED, CommandState.SUPERSEDED}:
        kind = kind or (FailureKind.CANCELLED if state == "cancelled" else FailureKind.SUPERSEDED)
    return kind, message


def _close(
    run_id: str,
    fold: RunFold,
    command: OpenCommand,
    state: str,
    outcome: tuple[str | None, str | None, dict[str, int] | None],
    event: LogEvent,
) -> CommandChange:
    kind, message, usage = outcome
    del fold.open[command.id]
    fold.requests = {k: v for k, v in fold.requests.items() if v.command_id != command.id}
    fold.closed_kind, fold.closed_message = kind, message
    terminal = terminal_of(state)
    result = ResultEnvelope(
        run_id=run_id,
        command_id=command.id,
        status=state,
        reply=command.reply,
        terminal_status=terminal,
        failure_kind=kind,
        failure_message=message,
        completed=terminal == TerminalStatus.COMPLETED,
        session_ref=fold.session,
        failure=_failure_view(kind),
        usage=usage,
        first_seq=command.first_seq,
        last_seq=event.seq,
        epoch=fold.epoch,
    )
    return CommandChange(command.id, state, command.delivered_epoch, kind, message, result)


def _command_of(fold: RunFold, event: LogEvent, *, named: bool = False) -> OpenCommand | None:
    """The open command an event speaks of; without a name, the delivered turn."""
    command_id = _command_id(event)
    if command_id is not None:
        return fold.open.get(command_id)
    return None if named else fold.delivered_turn()


def _command_id(event: LogEvent) -> str | None:
    return event.command_id or _text(event, "commandId")


def _text(event: LogEvent, field: str) -> str | None:
    value = event.payload.get(field)
    return value if isinstance(value, str) else None


def _usage(value: object) -> dict[str, int] | None:
    if not isinstance(value, dict):
        return None
    counts = cast("dict[str, Any]", value)
    return {k: counts[k] for k in USAGE_FIELDS if _is_count(counts.get(k))}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _failure_view(kind: str | None) -> FailureView | None:
    if kind is None:
        return None
    known = FailureKind(kind) if kind in set(FailureKind) else FailureKind.BACKEND_UNKNOWN
    facts = FACTS[known]
    return FailureView(
        failure_class=facts.failure_class, retryable=facts.retryable, remedy=facts.remedy
    )


_Step = Callable[[str, RunFold, LogEvent], list[CommandChange]]
_PHASES: dict[object, _Step] = {
    "command-created": _created,
    "run-claimed": _claimed,
    "run-lease-expired": _expired,
    "run-placement-failed": _placement_failed,
    "run-released": _released,
    "thread/start:completed": _thread,
    "thread/resume:completed": _thread,
    "command-acknowledged": _acknowledged,
    "interrupt-command-acknowledged": _acknowledged,
    "command-terminal": _command_terminal,
    "run-terminal": _run_terminal,
    requests.OPENED: _asked,
    requests.SETTLED: _settled,
}
