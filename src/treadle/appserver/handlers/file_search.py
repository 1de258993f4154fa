"""`fuzzyFileSearch*`: from parameters to the file search and back to every connection."""

from collections.abc import Sequence

from treadle.appserver.context import Context
from treadle.appserver.subscriptions import Subscriptions
from treadle.engine.services.file_search import FoundFile
from treadle.wire.protocol import file_search as proto
from treadle.wire.protocol.threads import Empty


async def find(context: Context, params: proto.FileSearchParams) -> proto.FileSearchResult:
    """One question, one answer."""
    search = context.services.file_search()
    found = await search.find(params.query, params.roots, params.cancellation_token)
    return proto.FileSearchResult(files=_matches(found))


async def start(context: Context, params: proto.SearchSessionStartParams) -> Empty:
    """Begin a session; it outlives the connection that asked, as all may use it."""
    listener = _Teller(context.services.subscriptions)
    context.services.file_search().start(params.session_id, params.roots, listener)
    return Empty()


async def update(context: Context, params: proto.SearchSessionUpdateParams) -> Empty:
    """Ask something new of a session."""
    context.services.file_search().update(params.session_id, params.query)
    return Empty()


async def stop(context: Context, params: proto.SearchSession) -> Empty:
    """End a session."""
    context.services.file_search().stop(params.session_id)
    return Empty()


class _Teller:
    """Passes what sessions find to every connection."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    def updated(self, session_id: str, query: str, files: Sequence[FoundFile]) -> None:
        told = proto.SearchSessionUpdated(session_id=session_id, query=query, files=_matches(files))
        self._subscriptions.notify_all("fuzzyFileSearch/sessionUpdated", told)

    def completed(self, session_id: str) -> None:
        told = proto.SearchSession(session_id=session_id)
        self._subscriptions.notify_all("fuzzyFileSearch/sessionCompleted", told)


def _matches(files: Sequence[FoundFile]) -> list[proto.FileMatch]:
    return [
        proto.FileMatch(
            root=file.root,
            path=file.path,
            match_type="directory" if file.is_directory else "file",
            file_name=file.name,
            score=file.score,
            indices=file.indices,
        )
        for file in files
    ]
