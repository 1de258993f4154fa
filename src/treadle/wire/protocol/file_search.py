"""Parameters, results and notifications of `fuzzyFileSearch*` (protocol 0.129.0 and 0.169.0)."""

from typing import Literal

import msgspec

from treadle.domain.items import Shape


class FileSearchParams(Shape, kw_only=True):
    """Parameters of `fuzzyFileSearch`; a token replaces the running search with the same one."""

    query: str
    roots: list[str]
    cancellation_token: str | None = None


class FileMatch(msgspec.Struct, kw_only=True):
    """A file or folder that answers; of all shapes this one alone is in snake case."""

    root: str
    path: str
    match_type: Literal["file", "directory"]
    file_name: str
    score: int
    indices: tuple[int, ...]


class FileSearchResult(Shape, kw_only=True):
    """Result of `fuzzyFileSearch`, best first."""

    files: list[FileMatch]


class SearchSessionStartParams(Shape, kw_only=True):
    """Parameters of `fuzzyFileSearch/sessionStart`; the id is the caller's choice."""

    session_id: str
    roots: list[str]


class SearchSessionUpdateParams(Shape, kw_only=True):
    """Parameters of `fuzzyFileSearch/sessionUpdate`."""

    session_id: str
    query: str


class SearchSession(Shape, kw_only=True):
    """Parameters of `fuzzyFileSearch/sessionStop`, and notification `sessionCompleted`."""

    session_id: str


class SearchSessionUpdated(Shape, kw_only=True):
    """Notification `fuzzyFileSearch/sessionUpdated`: the best files for a query so far."""

    session_id: str
    query: str
    files: list[FileMatch]
