"""Turns: one request of the user and all that the agent did about it."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from treadle.domain.items import FrozenShape, Shape, StoredItem

TurnStatus = Literal["inProgress", "completed", "interrupted", "failed"]
ItemsView = Literal["notLoaded", "summary", "full"]

ErrorInfo = str | dict[str, Any]
"""`codexErrorInfo` of the protocol: a name, or an object of one name with details."""


class TurnError(Shape, kw_only=True):
    """Why a turn failed, or why an attempt within it is tried again."""

    message: str
    codex_error_info: ErrorInfo | None = None
    additional_details: str | None = None


class Turn(Shape, kw_only=True):
    """A turn as clients see it; times are unix seconds, the duration milliseconds."""

    id: str
    root_turn_id: str | None = None
    items: list[StoredItem] = []
    items_view: ItemsView = "notLoaded"
    status: TurnStatus = "inProgress"
    error: TurnError | None = None
    started_at: int | None = None
    completed_at: int | None = None
    duration_ms: int | None = None
    partial_items: list[StoredItem] | UnsetType = UNSET
    """Messages that were cut off with the turn; absent without any (Treadle's own)."""


class TokenUsage(FrozenShape, frozen=True, kw_only=True):
    """Token counts of one response or of a whole thread."""

    total_tokens: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0

    def plus(self, other: "TokenUsage") -> "TokenUsage":
        """The sum, field by field."""
        return TokenUsage(
            total_tokens=self.total_tokens + other.total_tokens,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_input_tokens=self.cache_write_input_tokens + other.cache_write_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_output_tokens=self.reasoning_output_tokens + other.reasoning_output_tokens,
        )


class ThreadTokenUsage(FrozenShape, frozen=True, kw_only=True):
    """What a thread used in all, what its last response used, and the model's window."""

    total: TokenUsage
    last: TokenUsage
    model_context_window: int | None = None
