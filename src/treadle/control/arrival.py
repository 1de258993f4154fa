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


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Give the run another command first: an interrupt of this turn, which a newer one replaces."""

    target: OpenCommand
    payload: dict[str, Any]


Step = Close | EndRun


def target_of(fold: RunFold, busy_policy: str, command: Arrival) -> OpenCommand | None:
    """The open turn that a command is aimed at.

    A turn has an aim too where the run's policy is to steer: the turn at work takes its words, and
    only if it cannot any more does the new one run by itself.
    """
    if command.type == CommandType.INTERRUPT:
        return interrupt_target(fold, command.payload.get("commandId"))
    if command.type == CommandType.TURN and busy_policy == "steer" and fold.held:
        return fold.delivered_turn()
    return None


def make_way(fold: RunFold, busy_policy: str, command: Arrival) -> list[Close | Interrupt]:
    """What is done before a turn is stored where the run's policy is that it replaces others."""
    if command.type != CommandType.TURN or busy_policy != "interrupt":
        return []
    turns = open_turns(fold)
    if not fold.held:
        why = "A newer turn took its place before a runner had it."
        return [Close(turn.id, CommandState.SUPERSEDED, why) for turn in turns]
    open_commands = fold.open.values()
    hit = {each.target for each in open_commands if each.type == CommandType.INTERRUPT}
    reason = {"reason": "a newer turn takes its place", "supersededBy": command.id}
    return [
        Interrupt(turn, {"commandId": turn.id, **reason}) for turn in turns if turn.id not in hit
    ]


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
