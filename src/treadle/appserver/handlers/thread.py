"""`thread/*`: from parameters to the threads service and back."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_query import make_query
from treadle.domain.ids import explain_bad_uuid
from treadle.engine.services.errors import ThreadNotFound
from treadle.engine.services.planning import Overrides
from treadle.engine.services.threads import Client, NewThread, Opened
from treadle.wire.protocol import threads as proto
from treadle.wire.protocol.errors import invalid_request, unsupported


async def start(context: Context, params: proto.ThreadStartParams) -> proto.ThreadSession:
    """Begin a thread; the caller is subscribed to it."""
    threads = context.services.threads
    opened = await threads.start(
        NewThread(
            overrides=_overrides(params),
            client=_client(context),
            ephemeral=bool(params.ephemeral),
            thread_source=params.thread_source,
            dynamic_tools=params.dynamic_tools,
        )
    )
    context.services.subscriptions.subscribe(context.session, opened.thread.thread_id)
    context.afterwards(lambda: threads.announce_start(opened.thread))
    return _session(opened)


async def resume(context: Context, params: proto.ThreadResumeParams) -> proto.ThreadSession:
    """Load a stored thread or join a loaded one; the caller is subscribed to it."""
    if params.history is not None or params.path is not None:
        raise unsupported("thread/resume by history or path is not supported yet; use threadId")
    _check_id(params.thread_id, "session")
    threads = context.services.threads
    opened = await threads.resume(params.thread_id, _overrides(params), _client(context))
    subscriptions, thread_id = context.services.subscriptions, opened.thread.thread_id
    subscriptions.subscribe(context.session, thread_id)
    context.afterwards(lambda: subscriptions.requests.replay(context.session, thread_id))
    answer = _session(opened)
    if not params.exclude_turns:
        answer.thread.turns = opened.turns
    return answer


async def read(context: Context, params: proto.ThreadReadParams) -> proto.ThreadResult:
    """A thread's summary, with its turns on request; loads nothing."""
    _check_id(params.thread_id)
    threads = context.services.threads
    try:
        summary = await threads.read(params.thread_id)
        if params.include_turns:
            summary.turns = await threads.turns(params.thread_id)
    except ThreadNotFound:
        raise invalid_request(f"thread not loaded: {params.thread_id}") from None
    return proto.ThreadResult(thread=summary)


async def list_threads(context: Context, params: proto.ThreadListParams) -> proto.ThreadListResult:
    """A page of stored threads."""
    query = make_query(params, context.services.config.default_provider)
    summaries, page = await context.services.threads.page(query)
    return proto.ThreadListResult(
        data=summaries, next_cursor=page.next_cursor, backwards_cursor=page.backwards_cursor
    )


async def list_loaded(context: Context, params: proto.LoadedListParams) -> proto.LoadedListResult:
    """Ids of the threads in memory."""
    ids = [str(thread_id) for thread_id in context.services.threads.loaded_ids()]
    if params.cursor is not None:
        ids = [thread_id for thread_id in ids if thread_id > params.cursor]
    limit = max(1, params.limit) if params.limit is not None else len(ids)
    page, rest = ids[:limit], ids[limit:]
    return proto.LoadedListResult(data=page, next_cursor=page[-1] if rest and page else None)


async def archive(context: Context, params: proto.ThreadIdParams) -> proto.Empty:
    """Move a thread out of the active ones."""
    _check_id(params.thread_id, "session")
    announce = await context.services.threads.archive(params.thread_id)
    context.afterwards(announce)
    return proto.Empty()


async def unarchive(context: Context, params: proto.ThreadIdParams) -> proto.ThreadResult:
    """Bring an archived thread back."""
    _check_id(params.thread_id)
    summary, announce = await context.services.threads.unarchive(params.thread_id)
    context.afterwards(announce)
    return proto.ThreadResult(thread=summary)


async def unsubscribe(context: Context, params: proto.ThreadIdParams) -> proto.UnsubscribeResult:
    """Hear a thread no more; when nobody does, it is closed once it is idle (seed 002)."""
    _check_id(params.thread_id)
    subscriptions, threads = context.services.subscriptions, context.services.threads
    thread_id = params.thread_id
    if threads.get(thread_id) is None:
        return proto.UnsubscribeResult(status="notLoaded")
    if not subscriptions.subscribed(context.session, thread_id):
        return proto.UnsubscribeResult(status="notSubscribed")
    if subscriptions.unsubscribe(context.session, thread_id):
        context.afterwards(lambda: threads.unwatched(thread_id))
    return proto.UnsubscribeResult(status="unsubscribed")


def _check_id(thread_id: str, noun: str = "thread") -> None:
    problem = explain_bad_uuid(thread_id)
    if problem is not None:
        raise invalid_request(f"invalid {noun} id: {problem}")


def _client(context: Context) -> Client:
    return Client(context.session.originator, context.session.user_agent)


def _overrides(params: proto.ThreadOverrides) -> Overrides:
    roots = params.runtime_workspace_roots
    return Overrides(
        model=params.model,
        model_provider=params.model_provider,
        cwd=params.cwd,
        approval_policy=params.approval_policy,
        approvals_reviewer=params.approvals_reviewer,
        sandbox=params.sandbox,
        config=params.config or {},
        base_instructions=params.base_instructions,
        developer_instructions=params.developer_instructions,
        service_tier=params.service_tier,
        personality=params.personality,
        workspace_roots=tuple(roots) if roots is not None else None,
    )


def _session(opened: Opened) -> proto.ThreadSession:
    settings = opened.thread.agent.settings
    return proto.ThreadSession(
        thread=opened.thread.summary(),
        model=settings.model,
        model_provider=settings.model_provider,
        service_tier=settings.service_tier,
        cwd=settings.cwd,
        runtime_workspace_roots=list(settings.workspace_roots or (settings.cwd,)),
        instruction_sources=list(opened.plan.instruction_sources),
        approval_policy=settings.approval_policy,
        approvals_reviewer=settings.approvals_reviewer,
        sandbox=settings.sandbox,
        reasoning_effort=settings.effort,
    )
