"""Finding words in what was said: across threads, and every place within one.

Literal and without regard to case; looks at user messages and at the final agent message of each
turn. Raw logs are looked through first, so that only threads which may match are read.
"""

from collections.abc import Iterator

import msgspec

from treadle.domain import history
from treadle.domain.items import AgentMessage, Shape, TextInput, UserMessage
from treadle.domain.threads import ThreadSummary
from treadle.domain.turns import Turn
from treadle.engine.services.errors import InvalidQuery, Refused
from treadle.engine.services.thread_history import Cursor, cursor_text
from treadle.engine.services.threads import ThreadQuery, Threads
from treadle.engine.store.listing import cursor_text as list_cursor
from treadle.engine.store.thread_store import StoreError, ThreadInfo

SNIPPET_CHARS = 160
"""Longest snippet; the match stands in its middle where there is room."""

_SCAN_PAGE = 100


class SearchHit(Shape, kw_only=True):
    """A thread in which the words were found."""

    thread: ThreadSummary
    snippet: str


class SearchPage(Shape, kw_only=True):
    """A page of threads."""

    data: list[SearchHit]
    next_cursor: str | None = None
    backwards_cursor: str | None = None


class TextRange(Shape, kw_only=True):
    """Part of a text, in UTF-16 units as clients count."""

    start: int
    end: int


class Occurrence(Shape, kw_only=True):
    """One place where the words stand; the cursor opens its turn in `thread/turns/list`."""

    turn_id: str
    item_id: str
    snippet: str
    snippet_match_range: TextRange
    turn_cursor: str


class OccurrencePage(Shape, kw_only=True):
    """A page of places, oldest first."""

    data: list[Occurrence]
    next_cursor: str | None = None


class Searches:
    """Looks for words in stored and loaded threads; loads none."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def threads(self, query: ThreadQuery, term: str) -> SearchPage:
        """A page of the threads in which somebody said `term`, in the query's order.

        Raises:
            Refused: there is nothing to look for. InvalidQuery: see `ThreadStore.list_threads`.
        """
        if not term:
            raise Refused("thread/search requires a non-empty searchTerm")
        found: list[tuple[ThreadInfo, str]] = []
        cursor, more = query.cursor, True
        while more and len(found) <= query.limit:
            scan = msgspec.structs.replace(query, limit=_SCAN_PAGE, cursor=cursor)
            page = await self._threads.store.list_threads(scan)
            for info in page.threads:
                snippet = await self._first_snippet(info.thread_id, term)
                if snippet is not None:
                    found.append((info, snippet))
            cursor = page.next_cursor
            more = cursor is not None
        hits = found[: query.limit]
        if not hits:
            return SearchPage(data=[])
        key, first, last = query.sort_key, hits[0][0], hits[-1][0]
        further = len(found) > query.limit
        return SearchPage(
            data=[SearchHit(thread=self._summary(info), snippet=text) for info, text in hits],
            next_cursor=list_cursor(getattr(last, key), last.thread_id) if further else None,
            backwards_cursor=list_cursor(getattr(first, key), first.thread_id, inclusive=True),
        )

    async def occurrences(
        self, thread_id: str, term: str, limit: int | None, cursor: str | None
    ) -> OccurrencePage:
        """Every place in a thread where `term` stands; cursors are offsets in decimal.

        Raises:
            ThreadNotFound: there is no such thread.
            Refused: there is nothing to look for, or the thread is ephemeral or has no log yet.
            InvalidQuery: the cursor is none.
        """
        if not term:
            raise Refused("thread/searchOccurrences requires a non-empty searchTerm")
        begin = 0
        if cursor is not None:
            if not cursor.isdecimal():
                raise InvalidQuery(f"invalid cursor: {cursor}")
            begin = int(cursor)
        turns = await self._threads.turns(thread_id, "thread/searchOccurrences")
        places = list(_occurrences(thread_id, turns, term))
        end = begin + min(100, max(1, 25 if limit is None else limit))
        return OccurrencePage(
            data=places[begin:end], next_cursor=str(end) if end < len(places) else None
        )

    async def _first_snippet(self, thread_id: str, term: str) -> str | None:
        try:
            if not await self._threads.store.may_mention(thread_id, term):
                return None
            turns = history.turns(await self._threads.store.read_records(thread_id))
        except StoreError:
            return None  # a thread that cannot be read, or went meanwhile, hides no others
        first = next(_occurrences(thread_id, turns, term), None)
        return first.snippet if first is not None else None

    def _summary(self, info: ThreadInfo) -> ThreadSummary:
        return self._threads.shown(info)


def _occurrences(thread_id: str, turns: list[Turn], term: str) -> Iterator[Occurrence]:
    wanted = term.lower()
    for turn in turns:
        cursor = Cursor(thread_id=thread_id, turn_id=turn.id, include_anchor=True)
        for item_id, text in _said(turn):
            folded = _same_length_lower(text)
            at = folded.find(wanted)
            while at >= 0:
                snippet, place = _snippet(text, at, at + len(term))
                yield Occurrence(
                    turn_id=turn.id,
                    item_id=item_id,
                    snippet=snippet,
                    snippet_match_range=place,
                    turn_cursor=cursor_text(cursor),
                )
                at = folded.find(wanted, at + len(wanted))


def _said(turn: Turn) -> Iterator[tuple[str, str]]:
    """What the user said in a turn, and the agent's last word."""
    last: AgentMessage | None = None
    for item in turn.items:
        if isinstance(item, UserMessage):
            parts = [part.text for part in item.content if isinstance(part, TextInput)]
            yield item.id, "".join(parts)
        elif isinstance(item, AgentMessage):
            last = item
    if last is not None:
        yield last.id, last.text


def _same_length_lower(text: str) -> str:
    """Lower case, letter by letter: some letters would grow, and places would shift."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


def _snippet(text: str, begin: int, end: int) -> tuple[str, TextRange]:
    room = max(0, SNIPPET_CHARS - (end - begin))
    start = max(0, min(begin - room // 2, len(text) - SNIPPET_CHARS))
    snippet = text[start : max(end, start + SNIPPET_CHARS)]
    left = _utf16(text[start:begin])
    return snippet, TextRange(start=left, end=left + _utf16(text[begin:end]))


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
