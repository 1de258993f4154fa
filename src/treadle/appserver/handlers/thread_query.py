"""Turns a client's list filters into a query of the store."""

from collections.abc import Callable

from treadle.engine.services.errors import InvalidQuery
from treadle.engine.services.threads import ThreadQuery
from treadle.wire.protocol.threads import ThreadListParams

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
INTERACTIVE_SOURCES = ("cli", "vscode", "custom:atlas", "custom:chatgpt")
"""What a list without `sourceKinds` shows (protocol 0.129.0, 0.169.0)."""

_KINDS = {
    "subAgent": "subAgent",
    "subAgentReview": "subAgent:review",
    "subAgentCompact": "subAgent:compact",
    "subAgentThreadSpawn": "subAgent:thread_spawn",
    "subAgentOther": "subAgent:other",
}


def make_query(params: ThreadListParams, default_provider: Callable[[], str]) -> ThreadQuery:
    """The store's query for the parameters of `thread/list`.

    Without `modelProviders` only threads of the configured provider are listed; an empty list asks
    for all. Raises InvalidQuery for filters that contradict each other or are not offered.
    """
    if params.parent_thread_id and params.ancestor_thread_id:
        raise InvalidQuery("parentThreadId and ancestorThreadId are mutually exclusive")
    if params.sort_key == "section_position":
        raise InvalidQuery("section-position sorting requires a section filter")
    related = bool(params.parent_thread_id or params.ancestor_thread_id)
    providers = params.model_providers
    if providers is None:
        providers = [] if related else [default_provider()]
    kinds = [_KINDS.get(kind) or str(kind) for kind in params.source_kinds or ()]
    limit = DEFAULT_LIMIT if params.limit is None else params.limit
    cwds = [params.cwd] if isinstance(params.cwd, str) else params.cwd or []
    return ThreadQuery(
        limit=min(MAX_LIMIT, max(1, limit)),
        cursor=params.cursor,
        sort_key=params.sort_key or "created_at",
        descending=params.sort_direction != "asc",
        sources=tuple(kinds) or (() if related else INTERACTIVE_SOURCES),
        model_providers=tuple(providers),
        archived=bool(params.archived),
        cwds=tuple(cwds),
        search_term=params.search_term,
        parent_thread_id=params.parent_thread_id,
        ancestor_thread_id=params.ancestor_thread_id,
        excluded_ids=tuple(params.excluded_thread_ids or ()),
    )
