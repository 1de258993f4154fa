"""Rollout lines as typed objects: the frequent shapes decoded in one go, everything else as it is.

A long log is mostly messages. Their lines and events have exact types here, so that reading one
costs a few objects; whatever differs in anything is left to the careful readers of the codec.
"""

from typing import Any

import msgspec

from treadle.domain.items import AgentMessage, TextInput, UserMessage

NOTHING = msgspec.Raw()
"""The payload of a line that has none."""


class Line(msgspec.Struct, gc=False):
    """One line as it lies in a file; absent parts are None."""

    type: str | None = None
    payload: msgspec.Raw = NOTHING
    timestamp: str | None = None
    ordinal: int | None = None
    turn_id: str | None = None
    echo: bool = False
    """Written for older readers only: the same fact is on another line."""


class UserSaid(msgspec.Struct, tag="user_message", gc=False):
    """A `user_message` event of words alone."""

    message: str
    images: list[None] | None = None
    local_images: list[None] | None = None
    text_elements: list[None] | None = None


class AgentSaid(msgspec.Struct, tag="agent_message", gc=False):
    """An `agent_message` event."""

    message: str
    phase: str | None = None


class UserText(msgspec.Struct, tag="text", gc=False):
    """Words of a user message item."""

    text: str
    text_elements: list[None] = []


class AgentText(msgspec.Struct, tag="Text", gc=False):
    """Words of an agent message item."""

    text: str


class UserItem(msgspec.Struct, tag="UserMessage", gc=False):
    """A user message of words alone, as `item_completed` carries it."""

    id: str
    content: list[UserText]
    client_id: str | None = None


class AgentItem(msgspec.Struct, tag="AgentMessage", gc=False):
    """An agent message, as `item_completed` carries it."""

    id: str
    content: list[AgentText]
    phase: str | None = None
    memory_citation: None = None


class ItemCompleted(msgspec.Struct, tag="item_completed", gc=False):
    """A message that a person sees, complete."""

    turn_id: str
    item: UserItem | AgentItem
    started_at_ms: int | None = None
    completed_at_ms: int | None = None


class TaskStarted(msgspec.Struct, tag="task_started", gc=False):
    """A turn began."""

    turn_id: str
    started_at: int | None = None
    model_context_window: int | None = None


class TaskComplete(msgspec.Struct, tag="task_complete", gc=False):
    """A turn ended, and its own line knows of no error."""

    turn_id: str
    last_agent_message: str | None = None
    error: None = None
    started_at: int | None = None
    completed_at: int | None = None
    duration_ms: int | None = None


Event = UserSaid | AgentSaid | ItemCompleted | TaskStarted | TaskComplete
"""The events that logs consist of for the most part."""

_lines = msgspec.json.Decoder(Line)
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def decode_line(raw: bytes) -> Line:
    """One line; raises msgspec.MsgspecError or UnicodeDecodeError when it is none."""
    return _lines.decode(raw)


def decode_all(data: bytes) -> list[Line] | None:
    """All lines of a log at once; None when one of them has to be looked at by itself."""
    try:
        lines = _lines.decode_lines(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    # Lines from before the envelope have no payload: all of the line counts.
    return None if any(line.payload is NOTHING for line in lines) else lines


decode_event = _events.decode
"""A frequent event in its exact type; raises msgspec.ValidationError for any other."""


def shown(item: UserItem | AgentItem) -> UserMessage | AgentMessage:
    """The message that a line tells of."""
    if type(item) is AgentItem:
        parts = item.content
        text = parts[0].text if len(parts) == 1 else "".join(part.text for part in parts)
        return AgentMessage(id=item.id, text=text, phase=item.phase)
    content: list[Any] = [TextInput(text=part.text) for part in item.content]
    return UserMessage(id=item.id, client_id=getattr(item, "client_id", None), content=content)
