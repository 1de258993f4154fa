"""The rules of a turn, pure: what may happen when, and that it ends exactly once.

Knows no model, tool or clock. The loop feeds it what happened and asks what is next; the services
ask it whether input may still join. A state that has ended accepts nothing any more, and tells the
first caller of `end` alone that the ending was theirs.
"""

from typing import Any, Literal

import msgspec

from treadle.domain.items import UserInput
from treadle.domain.turns import TurnError, TurnStatus

Next = Literal["sample", "end"]


class TurnOver(Exception):
    """The turn has ended; input for it must start another one."""


class Steer(msgspec.Struct, frozen=True):
    """Input that joins a running turn."""

    content: list[UserInput]
    client_id: str | None = None
    item_id: str | None = None
    """The id that its user message gets; None for a fresh one."""


class TurnState(msgspec.Struct):
    """One turn from its first record to its only terminal one."""

    turn_id: str
    started_at_ms: int
    status: TurnStatus = "inProgress"
    error: TurnError | None = None
    open_calls: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])
    """Call ids in the order the model made them; the value tells custom calls from functions."""
    steers: list[Steer] = msgspec.field(default_factory=list[Steer])
    answered: bool = False
    """Whether the response in hand asked for any tool."""
    used_item_ids: set[str] = msgspec.field(default_factory=set[str])
    notes: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])
    """Context items that wait for the end of the response in hand."""
    interrupted: bool = False
    """Whether somebody asked for the turn's end."""

    @property
    def over(self) -> bool:
        """Whether the turn has its terminal status."""
        return self.status != "inProgress"

    def steer(self, steer: Steer) -> None:
        """Queue input for the next model call; raises TurnOver."""
        if self.over:
            raise TurnOver(self.turn_id)
        self.steers.append(steer)

    def take_steers(self) -> list[Steer]:
        """The queued input, which is thereby taken."""
        taken, self.steers = self.steers, []
        return taken

    def note(self, item: dict[str, Any]) -> None:
        """Queue a context item that the model is to hear of; raises TurnOver."""
        if self.over:
            raise TurnOver(self.turn_id)
        self.notes.append(item)

    def take_notes(self) -> list[dict[str, Any]]:
        """The queued items, which are thereby taken."""
        taken, self.notes = self.notes, []
        return taken

    def response_started(self) -> None:
        """A model call begins."""
        self.answered = False

    def call_made(self, call_id: str, *, custom: bool) -> None:
        """The model asked for a tool."""
        self.open_calls[call_id] = custom
        self.answered = True

    def call_answered(self, call_id: str) -> None:
        """A tool's output was recorded."""
        self.open_calls.pop(call_id, None)

    def response_ended(self, *, end_turn: bool | None) -> Next:
        """What follows a whole response whose calls are all answered.

        Another call of the model when it used tools, when input is waiting, or when the provider
        said that the turn is not over.
        """
        if self.answered or self.steers or self.notes or end_turn is False:
            return "sample"
        return "end"

    def unique_item_id(self, wanted: str | None, fresh: str) -> str:
        """`wanted` when no item of this turn has it yet, else `fresh`."""
        chosen = wanted if wanted and wanted not in self.used_item_ids else fresh
        self.used_item_ids.add(chosen)
        return chosen

    def end(self, status: TurnStatus, error: TurnError | None = None) -> bool:
        """Give the turn its terminal status; True for the first call only."""
        if self.over:
            return False
        self.status = status
        self.error = error
        return True
