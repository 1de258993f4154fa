"""Finding files by a few typed letters: single questions, and sessions that answer as one types.

A session lists its roots once, when it starts, and answers each query from that listing; while the
listing still grows, so do the answers. Walking and scoring happen on threads, scoring in short
bouts, so that a large tree holds nobody up. Knows nothing of connections; what answers a query is
decided by `fuzzy_pattern`.
"""

import asyncio
import heapq
import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from treadle.engine.services.errors import NoSearchFolders, Refused
from treadle.engine.services.file_listing import Entry, Listing
from treadle.engine.services.fuzzy_pattern import Pattern, parse
from treadle.kit.tasks import TaskScope

LIMIT = 50
"""Files in one answer."""
MAX_SESSIONS = 64
BOUT_ENTRIES = 4000
"""Entries scored between two looks at whether the answer is still wanted."""
PAUSE_SECONDS = 0.02
"""How long a query waits for a listing that grows."""
TELL_SECONDS = 0.1
"""Least time between two unfinished answers to one query."""


class FoundFile(NamedTuple):
    """A file or folder that answers a query; `indices` are the matched characters of `path`."""

    root: str
    path: str
    is_directory: bool
    score: int
    indices: tuple[int, ...]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return os.path.basename(self.path)


class Listener(Protocol):
    """Hears what sessions find."""

    def updated(self, session_id: str, query: str, files: Sequence[FoundFile]) -> None:
        """The best files for a query, as far as is known."""
        ...

    def completed(self, session_id: str) -> None:
        """The last answer was the whole one."""
        ...


class FileSearch:
    """All searches of one server."""

    def __init__(self) -> None:
        self._scope = TaskScope("file search")
        self._sessions: dict[str, _Session] = {}
        self._by_token: dict[str, Listing] = {}

    async def find(
        self, query: str, roots: Sequence[str], token: str | None = None
    ) -> list[FoundFile]:
        """The best files below `roots`; no query finds nothing, a relative root is passed over.

        A later question with the same `token` makes this one answer at once with what it has.
        """
        listing = Listing(tuple(roots))
        if token is not None:
            if (replaced := self._by_token.get(token)) is not None:
                replaced.cancelled = True
            self._by_token[token] = listing
        search = _Search(listing, parse(query))
        try:
            await asyncio.to_thread(listing.walk)
            while not (search.finished or listing.cancelled):
                await asyncio.to_thread(search.bout)
        finally:
            listing.cancelled = True
            if token is not None and self._by_token.get(token) is listing:
                del self._by_token[token]
        return search.best

    def start(self, session_id: str, roots: Sequence[str], listener: Listener) -> None:
        """Begin a session, in place of one with the same id.

        Raises:
            Refused: no id, or too many sessions.
            NoSearchFolders: no roots.
        """
        if not session_id:
            raise Refused("sessionId must not be empty")
        if not roots:
            raise NoSearchFolders
        self.stop(session_id)
        if len(self._sessions) >= MAX_SESSIONS:
            raise Refused(f"a server may have {MAX_SESSIONS} file search sessions; stop one first")
        self._sessions[session_id] = _Session(session_id, roots, listener, self._scope)

    def update(self, session_id: str, query: str) -> None:
        """Ask something new; the listener hears the answers.

        Raises:
            Refused: there is no such session.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise Refused(f"fuzzy file search session not found: {session_id}")
        session.ask(query)

    def stop(self, session_id: str) -> None:
        """End a session; its listener hears nothing more. Unknown ids are forgiven."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.end()

    async def close(self) -> None:
        """End everything."""
        for session_id in list(self._sessions):
            self.stop(session_id)
        for listing in self._by_token.values():
            listing.cancelled = True
        await self._scope.close(1.0)


class _Session:
    def __init__(
        self, session_id: str, roots: Sequence[str], listener: Listener, scope: TaskScope
    ) -> None:
        self._id = session_id
        self._listing = Listing(tuple(roots))
        self._listener = listener
        self._scope = scope
        self._answering: asyncio.Task[None] | None = None
        self._walking = scope.start(asyncio.to_thread(self._listing.walk), f"list {session_id}")

    def ask(self, query: str) -> None:
        """Answer `query` from now on."""
        if self._answering is not None:
            self._answering.cancel()
        self._answering = self._scope.start(self._answer(query), f"search {self._id}")

    def end(self) -> None:
        """Stop listing and answering."""
        self._listing.cancelled = True
        if self._answering is not None:
            self._answering.cancel()

    async def _answer(self, query: str) -> None:
        loop = asyncio.get_running_loop()
        search = _Search(self._listing, parse(query))
        told = float("-inf")
        news = False
        while not search.finished:
            news = await asyncio.to_thread(search.bout) or news
            if news and not search.finished and loop.time() - told >= TELL_SECONDS:
                self._listener.updated(self._id, query, search.best)
                told, news = loop.time(), False
            if search.starved:
                await asyncio.sleep(PAUSE_SECONDS)
        self._listener.updated(self._id, query, search.best)
        self._listener.completed(self._id)


class _Search:
    """One query over one listing, scored bout by bout."""

    def __init__(self, listing: Listing, pattern: Pattern) -> None:
        self._listing = listing
        self._pattern = pattern
        self._next = 0
        self.best: list[FoundFile] = []

    @property
    def starved(self) -> bool:
        """Whether every entry so far was scored and more may come."""
        return not self._listing.complete and self._next >= len(self._listing.entries)

    @property
    def finished(self) -> bool:
        """Whether everything was scored."""
        if not self._pattern.words:
            return True
        # Completeness first: entries that come between the two looks are then still seen.
        return self._listing.complete and self._next >= len(self._listing.entries)

    def bout(self) -> bool:
        """Score some entries; whether the best files changed. Blocks for a moment."""
        entries = self._listing.entries[self._next : self._next + BOUT_ENTRIES]
        self._next += len(entries)
        found = [file for entry in entries if (file := self._score(entry)) is not None]
        if not found:
            return False
        best = heapq.nsmallest(LIMIT, [*self.best, *found], key=_rank)
        changed = best != self.best
        self.best = best
        return changed

    def _score(self, entry: Entry) -> FoundFile | None:
        match = self._pattern.match(entry.path)
        return None if match is None else FoundFile(*entry, match.score, match.indices)


def _rank(file: FoundFile) -> tuple[int, str]:
    return (-file.score, file.path)
