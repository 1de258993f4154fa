"""Rollout lines as typed objects: the frequent shapes decoded in one go, everything else as it is.

A long log is mostly messages. Their lines and events have exact types here, so that reading one
costs a few objects; whatever differs in anything is left to the careful readers of the codec.
"""

from typing import Any

import msgspec

from treadle.domain.items import AgentMessage, TextInput, UserMessage
from treadle.domain.turns import ThreadTokenUsage, TokenUsage

NOTHING = msgspec.Raw()
"""The payload of a line that has none."""


class _Envelope(msgspec.Struct, kw_only=True, gc=False):
    """What lines of all kinds may have."""

    timestamp: str | None = None
    ordinal: int | None = None
    echo: bool = False
    """Written for older readers only: the same fact is on another line."""


class Line(_Envelope, gc=False):
    """One line as it lies in a file; absent parts are None."""

    type: str | None = None
    payload: msgspec.Raw = NOTHING
    turn_id: str | None = None


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


class Tokens(msgspec.Struct, gc=False, frozen=True):
    """Token counts as files spell them."""

    total_tokens: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0


class TokensTold(msgspec.Struct, gc=False):
    """What a `token_count` event says of tokens."""

    total_token_usage: Tokens = Tokens()
    last_token_usage: Tokens = Tokens()
    model_context_window: int | None = None


class TokenCount(msgspec.Struct, tag="token_count", gc=False):
    """Token counts after a response, and how much of the account's limits is used."""

    info: TokensTold | None = None
    rate_limits: dict[str, Any] | None = None
    turn_id: str | None = None


Event = UserSaid | AgentSaid | ItemCompleted | TaskStarted | TaskComplete | TokenCount
"""The events that logs consist of for the most part."""


class ItemLine(_Envelope, tag="response_item", gc=False):
    """A line with an item of the model."""

    payload: msgspec.Raw
    turn_id: str | None = None


class EventLine(_Envelope, tag="event_msg", gc=False):
    """A line with a frequent event."""

    payload: Event


class ContextLine(_Envelope, tag="turn_context", gc=False):
    """A line with the settings of a turn."""

    payload: msgspec.Raw


FrequentLine = ItemLine | EventLine | ContextLine

_lines = msgspec.json.Decoder(Line)
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_frequent: msgspec.json.Decoder[FrequentLine] = msgspec.json.Decoder(FrequentLine)


def decode_line(raw: bytes) -> Line:
    """One line; raises msgspec.MsgspecError or UnicodeDecodeError when it is none."""
    return _lines.decode(raw)


def decode_block(block: bytes) -> list[FrequentLine] | None:
    """Some lines of a log at once; None when one of them has to be looked at by itself."""
    try:
        return _frequent.decode_lines(block)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


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


def usage_of(event: TokenCount) -> ThreadTokenUsage | None:
    """The token counts that an event tells, if it tells any."""
    info = event.info
    if info is None:
        return None
    return ThreadTokenUsage(
        total=TokenUsage(**msgspec.structs.asdict(info.total_token_usage)),
        last=TokenUsage(**msgspec.structs.asdict(info.last_token_usage)),
        model_context_window=info.model_context_window,
    )
