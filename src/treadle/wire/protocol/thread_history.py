"""Parameters and results of reading a thread's past, and of searching in it."""

from typing import Literal

from msgspec import UNSET, UnsetType

from treadle.domain.items import Shape, StoredItem
from treadle.domain.threads import ThreadSummary
from treadle.domain.turns import ItemsView, Turn
from treadle.wire.protocol.numbers import U32
from treadle.wire.protocol.threads import SortDirection, SourceKind


class TurnsListParams(Shape, kw_only=True):
    """Parameters of `thread/turns/list`: newest first unless told otherwise."""

    thread_id: str
    cursor: str | None = None
    limit: U32 | None = None
    sort_direction: SortDirection | None = None
    items_view: ItemsView | None = None


class TurnsListResult(Shape, kw_only=True):
    """A page of turns."""

    data: list[Turn]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class ItemAnchor(Shape, tag="item", kw_only=True):
    """Begin a page with this item."""

    item_id: str


class OutputDeferral(Shape, kw_only=True):
    """Whose output is left out of a page, to be fetched by `thread/items/read`."""

    command_execution: bool = False
    mcp_tool_call: bool = False


class ItemsListParams(Shape, kw_only=True):
    """Parameters of `thread/items/list`: oldest first unless told otherwise."""

    thread_id: str
    turn_id: str | None = None
    cursor: str | ItemAnchor | None = None
    limit: U32 | None = None
    sort_direction: SortDirection | None = None
    defer_output: OutputDeferral | None = None


class ItemEntry(Shape, kw_only=True):
    """An item and the turn it belongs to."""

    turn_id: str
    item: StoredItem
    output_deferred: bool = False
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    partial: bool | UnsetType = UNSET


class ItemsListResult(Shape, kw_only=True):
    """A page of items."""

    data: list[ItemEntry]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class ItemsReadParams(Shape, kw_only=True):
    """Parameters of `thread/items/read`."""

    thread_id: str
    turn_id: str
    item_ids: list[str]


class ItemsReadResult(Shape, kw_only=True):
    """The items that the turn has."""

    data: list[ItemEntry]


class ThreadSearchParams(Shape, kw_only=True):
    """Parameters of `thread/search`."""

    search_term: str
    archived: bool | None = None
    cursor: str | None = None
    limit: U32 | None = None
    sort_key: Literal["created_at", "updated_at", "recency_at"] | None = None
    sort_direction: SortDirection | None = None
    source_kinds: list[SourceKind] | None = None
    current_account_only: bool = False
    include_attached_threads: bool = False


class SearchHit(Shape, kw_only=True):
    """A thread and the words around the match."""

    thread: ThreadSummary
    snippet: str


class ThreadSearchResult(Shape, kw_only=True):
    """A page of threads."""

    data: list[SearchHit]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class OccurrencesParams(Shape, kw_only=True):
    """Parameters of `thread/searchOccurrences`."""

    thread_id: str
    search_term: str
    cursor: str | None = None
    limit: U32 | None = None


class TextRange(Shape, kw_only=True):
    """A part of a text in UTF-16 units."""

    start: int
    end: int


class Occurrence(Shape, kw_only=True):
    """One match; the cursor opens its turn in `thread/turns/list`."""

    turn_id: str
    item_id: str
    snippet: str
    snippet_match_range: TextRange
    turn_cursor: str


class OccurrencesResult(Shape, kw_only=True):
    """A page of matches, oldest first."""

    data: list[Occurrence]
    next_cursor: str | None = None
