"""A thread's past page by page: its turns and its items.

Cursors name a row, not a place, so that pages fit together while a thread grows. They are JSON
texts that clients hand back as they are.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from treadle.domain.items import (
    AgentMessage,
    CommandExecution,
    McpToolCall,
    Shape,
    StoredItem,
    UserMessage,
    item_id,
    times_of,
)
from treadle.domain.turns import ItemsView, Turn
from treadle.engine.services.errors import InvalidQuery, Refused
from treadle.engine.services.threads import Threads

Row = TypeVar("Row")

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
MAX_READ_ITEMS = 100


class Cursor(Shape, kw_only=True):
    """Where a page begins: behind a row, or with it."""

    thread_id: str
    turn_id: str
    item_id: str | None = None
    include_anchor: bool = False


class PageRequest(msgspec.Struct, kw_only=True, frozen=True):
    """Which page of a thread's past; `item_id` begins with that item instead of a cursor."""

    limit: int | None = None
    cursor: str | None = None
    descending: bool = False
    item_id: str | None = None


class Page(Shape, Generic[Row], kw_only=True):
    """Rows in the asked order, and cursors to go on in both directions."""

    data: list[Row]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class ItemEntry(Shape, kw_only=True):
    """An item with its turn, and when it began and ended (unix milliseconds, null: not noted)."""

    turn_id: str
    item: StoredItem
    output_deferred: bool = False
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    partial: bool | UnsetType = UNSET
    """True for a message that was cut off with its turn; else absent (Treadle's own)."""


class Histories:
    """Pages through the past of stored and loaded threads; loads none."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def turns_page(
        self, thread_id: str, request: PageRequest, view: ItemsView = "summary"
    ) -> Page[Turn]:
        """Turns with as much of their items as `view` says.

        Raises:
            ThreadNotFound: there is no such thread.
            Refused: it is ephemeral or has no log yet. InvalidQuery: the cursor is none of its own.
        """
        turns = await self._threads.turns(thread_id, "thread/turns/list")
        return page_of_turns(thread_id, turns, request, view)

    async def items_page(
        self, thread_id: str, turn_id: str | None, request: PageRequest
    ) -> Page[ItemEntry]:
        """Items of all turns, or of one; raises as `turns_page`."""
        turns = await self._threads.turns(thread_id, "thread/items/list")
        rows = [entry for turn in turns if turn_id in (None, turn.id) for entry in _entries(turn)]

        def cursor(entry: ItemEntry) -> Cursor:
            return Cursor(thread_id=thread_id, turn_id=entry.turn_id, item_id=item_id(entry.item))

        return _page(rows, cursor, request)

    async def read_items(
        self, thread_id: str, turn_id: str, item_ids: list[str]
    ) -> list[ItemEntry]:
        """The named items of a turn, in its order; those it does not have are left out."""
        if not 1 <= len(item_ids) <= MAX_READ_ITEMS:
            raise Refused(f"itemIds must contain 1 to {MAX_READ_ITEMS} IDs")
        turns = await self._threads.turns(thread_id, "thread/items/read")
        entries = [entry for turn in turns if turn.id == turn_id for entry in _entries(turn)]
        return [entry for entry in entries if item_id(entry.item) in item_ids]


def page_of_turns(
    thread_id: str, turns: list[Turn], request: PageRequest, view: ItemsView
) -> Page[Turn]:
    """A page of a thread's turns; raises InvalidQuery."""
    page = _page(turns, lambda turn: Cursor(thread_id=thread_id, turn_id=turn.id), request)
    page.data = [_viewed(turn, view) for turn in page.data]
    return page


def cursor_text(cursor: Cursor) -> str:
    """A cursor as clients get it."""
    return msgspec.json.encode(cursor).decode()


def backwards_cursors(thread_id: str, turns: list[Turn]) -> tuple[str | None, str | None]:
    """Where to begin paging back through turns and through items; None where there are none."""
    if not turns:
        return None, None
    last = Cursor(thread_id=thread_id, turn_id=turns[-1].id, include_anchor=True)
    newest = next((turn for turn in reversed(turns) if turn.items), None)
    if newest is None:
        return cursor_text(last), None
    item = Cursor(
        thread_id=thread_id,
        turn_id=newest.id,
        item_id=item_id(newest.items[-1]),
        include_anchor=True,
    )
    return cursor_text(last), cursor_text(item)


def defer_output(entry: ItemEntry, *, commands: bool, mcp_calls: bool) -> ItemEntry:
    """The entry without the output that the client wants to fetch later, if it has such."""
    item = entry.item
    if commands and isinstance(item, CommandExecution) and item.aggregated_output:
        lighter: Any = msgspec.structs.replace(item, aggregated_output=None)
    elif mcp_calls and isinstance(item, McpToolCall) and item.result is not None:
        lighter = msgspec.structs.replace(item, result=None)
    else:
        return entry
    return msgspec.structs.replace(entry, item=lighter, output_deferred=True)


def _entries(turn: Turn) -> Iterable[ItemEntry]:
    for item in turn.items:
        began, ended = times_of(item)
        yield ItemEntry(turn_id=turn.id, item=item, started_at_ms=began, completed_at_ms=ended)
    for item in turn.partial_items or ():
        yield ItemEntry(turn_id=turn.id, item=item, partial=True)


def _viewed(turn: Turn, view: ItemsView) -> Turn:
    items: list[StoredItem] = []
    if view == "full":
        items = turn.items
    elif view == "summary":
        asked = [item for item in turn.items if isinstance(item, UserMessage)]
        said = [item for item in turn.items if isinstance(item, AgentMessage)]
        items = [*asked[:1], *said[-1:]]
    partial = turn.partial_items if view == "full" else UNSET
    return msgspec.structs.replace(turn, items=items, items_view=view, partial_items=partial)


def _page(rows: list[Row], cursor_of: Callable[[Row], Cursor], request: PageRequest) -> Page[Row]:
    ordered = rows[::-1] if request.descending else rows
    begin = _begin(ordered, cursor_of, request)
    limit = min(MAX_LIMIT, max(1, DEFAULT_LIMIT if request.limit is None else request.limit))
    data = ordered[begin : begin + limit]
    if not data:
        return Page(data=[])
    first = cursor_of(data[0])
    first.include_anchor = True
    more = begin + limit < len(ordered)
    return Page(
        data=data,
        next_cursor=cursor_text(cursor_of(data[-1])) if more else None,
        backwards_cursor=cursor_text(first),
    )


def _begin(rows: list[Row], cursor_of: Callable[[Row], Cursor], request: PageRequest) -> int:
    if request.item_id is not None:
        for at, row in enumerate(rows):
            if cursor_of(row).item_id == request.item_id:
                return at
        raise InvalidQuery(f"invalid cursor: no item {request.item_id}")
    if request.cursor is None:
        return 0
    try:
        wanted = msgspec.json.decode(request.cursor, type=Cursor)
    except (msgspec.MsgspecError, UnicodeError):
        raise InvalidQuery(f"invalid cursor: {request.cursor}") from None
    inclusive, wanted.include_anchor = wanted.include_anchor, False
    for at, row in enumerate(rows):
        if cursor_of(row) == wanted:
            return at if inclusive else at + 1
    raise InvalidQuery(f"invalid cursor: {request.cursor}")
