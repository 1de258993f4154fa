"""Thread lists: what a page's cursor, order and filters mean, for every store alike.

Owns the cursor's text form and the filter rules; where the rows come from is a store's business.
Times are whole milliseconds here, so that a cursor's text names a row exactly.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from treadle.engine.store.thread_store import InvalidQuery, ThreadInfo, ThreadPage, ThreadQuery
from treadle.kit.clock import iso_millis, parse_iso

SORT_KEYS = ("created_at", "updated_at", "recency_at")
MAX_LIMIT = 1000
_SUB_AGENTS = {
    "review": "subAgentReview",
    "compact": "subAgentCompact",
    "thread_spawn": "subAgentThreadSpawn",
}


class Anchor(msgspec.Struct, frozen=True):
    """Where a page begins: behind the row (time, id), or at it."""

    at_ms: int
    thread_id: str | None
    inclusive: bool = False


def cursor_text(at_seconds: float, thread_id: str, *, inclusive: bool = False) -> str:
    """A cursor for a row: `<RFC 3339>|<thread id>`, with `|=` when the row itself belongs to it."""
    return f"{iso_millis(at_seconds)}|{thread_id}{'|=' if inclusive else ''}"


def parse_cursor(text: str | None) -> Anchor | None:
    """The anchor that a cursor names; a bare time counts as the start of that time's rows.

    Raises:
        InvalidQuery: the text is no cursor.
    """
    if text is None:
        return None
    stamp, _, rest = text.partition("|")
    thread_id, _, mark = rest.partition("|")
    try:
        moment = parse_iso(stamp)
    except ValueError:
        raise InvalidQuery(f"invalid cursor: {text}") from None
    if mark not in ("", "=") or not stamp:
        raise InvalidQuery(f"invalid cursor: {text}")
    if not thread_id:
        return Anchor(to_ms(moment), None, inclusive=True)
    return Anchor(to_ms(moment), thread_id, inclusive=mark == "=")


def to_ms(seconds: float) -> int:
    """Whole milliseconds, rounded as `iso_millis` rounds them."""
    return round(seconds * 1000)


def check_query(query: ThreadQuery) -> Anchor | None:
    """Refuse a query that makes no sense; the anchor of its cursor.

    Raises:
        InvalidQuery: unknown sort key, impossible limit, a cursor that is none.
    """
    if query.sort_key not in SORT_KEYS:
        raise InvalidQuery(f"unknown sort key {query.sort_key}; use one of {', '.join(SORT_KEYS)}")
    if query.limit < 1 or query.limit > MAX_LIMIT:
        raise InvalidQuery(f"limit must be between 1 and {MAX_LIMIT}, not {query.limit}")
    if query.parent_thread_id and query.ancestor_thread_id:
        raise InvalidQuery("parentThreadId and ancestorThreadId are mutually exclusive")
    return parse_cursor(query.cursor)


def source_kinds(source: Any) -> tuple[str, str | None]:
    """The kind of a thread's source, and its finer name where there is one.

    `("custom", "custom:atlas")`, `("subAgent", "subAgentReview")`, `("cli", None)`.
    """
    if isinstance(source, str):
        return source, None
    if not isinstance(source, dict) or not source:
        return "unknown", None
    kind, detail = next(iter(cast("dict[str, Any]", source).items()))
    if kind == "custom":
        return "custom", f"custom:{detail}"
    if kind == "subAgent":
        name = (
            next(iter(cast("dict[str, Any]", detail)), "") if isinstance(detail, dict) else detail
        )
        return "subAgent", _SUB_AGENTS.get(str(name), "subAgentOther")
    return "unknown", None


def page_of(threads: Iterable[ThreadInfo], query: ThreadQuery) -> ThreadPage:
    """The page of an in-memory collection that a query asks for; threads without preview are out.

    Raises:
        InvalidQuery: see `check_query`.
    """
    anchor = check_query(query)
    pool = list(threads)
    family = descendants(pool, query.ancestor_thread_id) if query.ancestor_thread_id else None
    rows = [info for info in pool if _matches(info, query, family)]
    key = query.sort_key
    rows.sort(
        key=lambda info: (to_ms(getattr(info, key)), info.thread_id), reverse=query.descending
    )
    if anchor is not None:
        rows = [info for info in rows if _beyond(info, anchor, query)]
    return cut_page(rows, query)


def cut_page(rows: list[ThreadInfo], query: ThreadQuery) -> ThreadPage:
    """A page from ordered rows of which one more than the limit may be present."""
    page = rows[: query.limit]
    if not page:
        return ThreadPage(threads=[])
    key = query.sort_key
    more = len(rows) > query.limit
    last = page[-1]
    return ThreadPage(
        threads=page,
        next_cursor=cursor_text(getattr(last, key), last.thread_id) if more else None,
        backwards_cursor=cursor_text(getattr(page[0], key), page[0].thread_id, inclusive=True),
    )


def descendants(threads: Iterable[ThreadInfo], ancestor_id: str) -> set[str]:
    """Ids of all threads below `ancestor_id`, itself left out."""
    children: dict[str, list[str]] = {}
    for info in threads:
        parent = info.created.parent_thread_id
        if parent:
            children.setdefault(parent, []).append(info.thread_id)
    found: set[str] = set()
    todo = [ancestor_id]
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in found:
                found.add(child)
                todo.append(child)
    found.discard(ancestor_id)
    return found


def levels(thread_id: str, children_of: Callable[[str], Iterable[str]]) -> list[str]:
    """All threads below one, level by level, each once even where edges run in a circle."""
    found: dict[str, None] = {}
    todo = [thread_id]
    for parent in todo:
        for child in children_of(parent):
            if child not in found and child != thread_id:
                found[child] = None
                todo.append(child)
    return list(found)


def _matches(info: ThreadInfo, query: ThreadQuery, family: set[str] | None) -> bool:
    if not info.preview or info.archived != query.archived:
        return False
    if info.thread_id in query.excluded_ids or (
        family is not None and info.thread_id not in family
    ):
        return False
    if query.parent_thread_id and info.created.parent_thread_id != query.parent_thread_id:
        return False
    return _matches_text(info, query)


def _matches_text(info: ThreadInfo, query: ThreadQuery) -> bool:
    if query.sources and not set(source_kinds(info.created.source)) & set(query.sources):
        return False
    if query.model_providers and info.created.model_provider not in query.model_providers:
        return False
    if query.cwds and info.created.cwd not in query.cwds:
        return False
    term = query.search_term
    return not term or term in info.preview or term in (info.name or "")


def _beyond(info: ThreadInfo, anchor: Anchor, query: ThreadQuery) -> bool:
    at = to_ms(getattr(info, query.sort_key))
    if anchor.thread_id is None:
        return at <= anchor.at_ms if query.descending else at >= anchor.at_ms
    row, start = (at, info.thread_id), (anchor.at_ms, anchor.thread_id)
    if row == start:
        return anchor.inclusive
    return row < start if query.descending else row > start
