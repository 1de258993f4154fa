"""Partial messages: what an agent had said when its turn was cut off, and its place in the log.

Both reference versions drop it from the turn's items, and clients rely on items being whole; so it
is kept beside them: marked, in a line of its own that other programs pass over. Pure.
"""

from typing import Any, cast

import msgspec

from treadle.domain.items import AgentMessage
from treadle.domain.records import Foreign

PARTIAL_LINE = "treadle_partial"
"""Type of the log's lines about partial messages."""


class PartialMessage(AgentMessage, tag="agentMessage", kw_only=True):
    """As much of an agent message as had arrived."""

    partial: bool = True


def partial_record(turn_id: str, item: PartialMessage, at: float) -> Foreign:
    """The line that keeps a partial message."""
    payload = {"turn_id": turn_id, "item": msgspec.to_builtins(item)}
    return Foreign(at=at, type=PARTIAL_LINE, payload=payload)


def read_partial(record: Foreign) -> tuple[str, dict[str, Any]] | None:
    """The turn's id and the item, of a line that keeps one; None for any other line."""
    if record.type != PARTIAL_LINE:
        return None
    line = cast("dict[str, Any]", record.payload or {})
    item: Any = line.get("item")
    return (str(line.get("turn_id", "")), cast("Any", item)) if isinstance(item, dict) else None
