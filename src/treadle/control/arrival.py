"""What becomes of a command when it arrives: rejected, done at once, or kept for a runner.

Pure decisions over the run's fold; the caller writes the steps, in order, in the transaction that
stores the command. Knows no database.
"""

from dataclasses import dataclass
from typing import Any

from treadle.control.fold import OpenCommand, RunFold, interrupt_target
from treadle.control.records import CommandState, CommandType, TerminalStatus
from treadle.control.requests import why_not

NOT_ACTIVE = "turn-not-active"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A command that was just given to a run."""

    id: str
    type: CommandType
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Close:
    """Close a command: the new one, or one that it makes pointless."""

    command_id: str
    state: CommandState
    message: str | None = None


@dataclass(frozen=True, slots=True)
class EndRun:
    """End the run."""

    terminal_status: TerminalStatus


Step = Close | EndRun


def target_of(fold: RunFold, command: Arrival) -> OpenCommand | None:
    """The open turn that a command is aimed at, where commands of its type have an aim."""
    if command.type == CommandType.INTERRUPT:
        return interrupt_target(fold, command.payload.get("commandId"))
    return None


def steps(fold: RunFold, command: Arrival, target: OpenCommand | None) -> list[Step]:
    """What is done at once. Whatever needs a runner that holds the run is left to it."""
    rejected = _why_rejected(fold, command, target)
    if rejected is not None:
        return [Close(command.id, CommandState.REJECTED, rejected)]
    if fold.held:
        return []
    if command.type == CommandType.INTERRUPT and target is not None:
        why = "Interrupted before a runner had it."
        return [
            Close(target.id, CommandState.CANCELLED, why),
            Close(command.id, CommandState.COMPLETED),
        ]
    if command.type == CommandType.CANCEL:
        return [Close(command.id, CommandState.COMPLETED), EndRun(TerminalStatus.CANCELLED)]
    if command.type == CommandType.CLOSE and not open_turns(fold):
        return [Close(command.id, CommandState.COMPLETED), EndRun(TerminalStatus.COMPLETED)]
    return []


def open_turns(fold: RunFold) -> list[OpenCommand]:
    """Turns that are not closed, oldest first."""
    return [command for command in fold.open.values() if command.type == CommandType.TURN]


def _why_rejected(fold: RunFold, command: Arrival, target: OpenCommand | None) -> str | None:
    if command.type == CommandType.INTERRUPT and target is None:
        return NOT_ACTIVE
    if command.type == CommandType.STEER and not (fold.held and open_turns(fold)):
        return NOT_ACTIVE
    if command.type == CommandType.ANSWER:
        return why_not(fold.requests, command.payload)
    return None
