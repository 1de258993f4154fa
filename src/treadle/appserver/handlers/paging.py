"""Pages of short lists by offset: cursors are decimal numbers, as the references have them."""

from typing import TypeVar

from treadle.wire.protocol.errors import invalid_request

T = TypeVar("T")


def page(items: list[T], cursor: str | None, limit: int | None) -> tuple[list[T], str | None]:
    """The items from `cursor` on, at most `limit`, and the cursor after them (None at the end).

    Raises RpcError for a cursor that no page gave.
    """
    begin = 0
    if cursor is not None:
        if not cursor.isdecimal() or int(cursor) > len(items):
            raise invalid_request(f"invalid cursor: {cursor}")
        begin = int(cursor)
    end = begin + max(1, limit) if limit is not None else len(items)
    return items[begin:end], str(end) if end < len(items) else None
