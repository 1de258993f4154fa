"""`thread/turns/list`, `thread/items/*`, `thread/search*`: a thread's past, page by page."""

from typing import Any

import msgspec

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_query import make_query
from treadle.appserver.handlers.thread_session import check_id
from treadle.engine.services.errors import ThreadNotFound
from treadle.engine.services.thread_history import PageRequest, defer_output
from treadle.wire.protocol import thread_history as proto
from treadle.wire.protocol.errors import RpcError, invalid_request
from treadle.wire.protocol.threads import ThreadListParams


async def list_turns(context: Context, params: proto.TurnsListParams) -> proto.TurnsListResult:
    """A page of a thread's turns."""
    check_id(params.thread_id)
    request = PageRequest(
        limit=params.limit,
        cursor=params.cursor,
        descending=params.sort_direction != "asc",
    )
    try:
        page = await context.services.life().histories.turns_page(
            params.thread_id, request, params.items_view or "summary"
        )
    except ThreadNotFound:
        raise _not_loaded(params.thread_id) from None
    return proto.TurnsListResult(
        data=page.data, next_cursor=page.next_cursor, backwards_cursor=page.backwards_cursor
    )


async def list_items(context: Context, params: proto.ItemsListParams) -> proto.ItemsListResult:
    """A page of a thread's items."""
    check_id(params.thread_id)
    anchor = params.cursor if isinstance(params.cursor, proto.ItemAnchor) else None
    request = PageRequest(
        limit=params.limit,
        cursor=params.cursor if isinstance(params.cursor, str) else None,
        descending=params.sort_direction == "desc",
        item_id=anchor.item_id if anchor is not None else None,
    )
    try:
        page = await context.services.life().histories.items_page(
            params.thread_id, params.turn_id, request
        )
    except ThreadNotFound:
        raise _not_loaded(params.thread_id) from None
    defer = params.defer_output or proto.OutputDeferral()
    entries = [
        defer_output(entry, commands=defer.command_execution, mcp_calls=defer.mcp_tool_call)
        for entry in page.data
    ]
    return proto.ItemsListResult(
        data=[_shaped(entry, proto.ItemEntry) for entry in entries],
        next_cursor=page.next_cursor,
        backwards_cursor=page.backwards_cursor,
    )


async def read_items(context: Context, params: proto.ItemsReadParams) -> proto.ItemsReadResult:
    """Named items of one turn."""
    check_id(params.thread_id)
    try:
        entries = await context.services.life().histories.read_items(
            params.thread_id, params.turn_id, params.item_ids
        )
    except ThreadNotFound:
        raise _not_loaded(params.thread_id) from None
    return proto.ItemsReadResult(data=[_shaped(entry, proto.ItemEntry) for entry in entries])


async def search(context: Context, params: proto.ThreadSearchParams) -> proto.ThreadSearchResult:
    """Threads in which somebody said the words; of all providers."""
    listed = ThreadListParams(
        limit=params.limit,
        cursor=params.cursor,
        sort_key=params.sort_key,
        sort_direction=params.sort_direction,
        source_kinds=params.source_kinds,
        model_providers=[],
        archived=params.archived,
    )
    query = make_query(listed, context.services.config.default_provider)
    page = await context.services.life().searches.threads(query, params.search_term)
    return proto.ThreadSearchResult(
        data=[_shaped(hit, proto.SearchHit) for hit in page.data],
        next_cursor=page.next_cursor,
        backwards_cursor=page.backwards_cursor,
    )


async def search_occurrences(
    context: Context, params: proto.OccurrencesParams
) -> proto.OccurrencesResult:
    """Every place in a thread where the words stand."""
    check_id(params.thread_id)
    try:
        page = await context.services.life().searches.occurrences(
            params.thread_id, params.search_term, params.limit, params.cursor
        )
    except ThreadNotFound:
        raise _not_loaded(params.thread_id) from None
    places = [
        msgspec.structs.replace(
            _shaped(place, proto.Occurrence),
            snippet_match_range=_shaped(place.snippet_match_range, proto.TextRange),
        )
        for place in page.data
    ]
    return proto.OccurrencesResult(data=places, next_cursor=page.next_cursor)


def _shaped(source: msgspec.Struct, target: type[Any]) -> Any:
    """A service's answer as the protocol's type of the same fields."""
    return target(**msgspec.structs.asdict(source))


def _not_loaded(thread_id: str) -> RpcError:
    return invalid_request(f"thread not loaded: {thread_id}")
