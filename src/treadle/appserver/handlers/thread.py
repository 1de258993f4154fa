"""`thread/*`: from parameters to the threads service and back."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_query import make_query
from treadle.appserver.handlers.thread_session import (
    check_id,
    client_of,
    overrides_of,
    session_facts,
    tell_usage,
)
from treadle.domain.ids import is_uuid
from treadle.engine.services.errors import ThreadNotFound
from treadle.engine.services.thread_history import PageRequest, backwards_cursors, page_of_turns
from treadle.engine.services.threads import NewThread, Opened
from treadle.wire.protocol import threads as proto
from treadle.wire.protocol.errors import invalid_request


async def start(context: Context, params: proto.ThreadStartParams) -> proto.ThreadSession:
    """Begin a thread; the caller is subscribed to it."""
    threads = context.services.threads
    opened = await threads.start(
        NewThread(
            overrides=overrides_of(params),
            client=client_of(context),
            ephemeral=bool(params.ephemeral),
            thread_source=params.thread_source,
            dynamic_tools=params.dynamic_tools,
            raw_items=params.experimental_raw_events,
        )
    )
    if params.budget is not None:
        context.services.budgets.set(opened.thread.thread_id, params.budget)
    context.services.subscriptions.subscribe(context.session, opened.thread.thread_id)
    context.afterwards(lambda: threads.announce_start(opened.thread))
    return proto.ThreadSession(**session_facts(opened))


async def resume(context: Context, params: proto.ThreadResumeParams) -> proto.ResumedSession:
    """Load a stored thread or join a loaded one; the caller is subscribed to it."""
    subscriptions = context.services.subscriptions
    # Who hears the thread already misses nothing meanwhile.
    heard = subscriptions.subscribed(context.session, params.thread_id)
    opened = await _open(context, params)
    await context.services.agents.bring_waiting(opened.thread)
    thread_id = str(opened.thread.thread_id)
    subscriptions.subscribe(context.session, thread_id)
    if not heard:
        last_seq = opened.last_seq
        context.afterwards(lambda: subscriptions.catch_up(context.session, thread_id, last_seq))
    answer = proto.ResumedSession(**session_facts(opened))
    answer.collaboration_mode = opened.thread.agent.settings.mode
    if not params.exclude_turns:
        answer.thread.turns = opened.turns
        tell_usage(context, thread_id, opened.usage)
    cursors = backwards_cursors(thread_id, opened.turns)
    answer.turns_backwards_cursor, answer.items_backwards_cursor = cursors
    wanted = params.initial_turns_page
    if wanted is not None:
        request = PageRequest(limit=wanted.limit, descending=wanted.sort_direction != "asc")
        page = page_of_turns(thread_id, opened.turns, request, wanted.items_view or "summary")
        answer.initial_turns_page = proto.TurnsPage(
            data=page.data, next_cursor=page.next_cursor, backwards_cursor=page.backwards_cursor
        )
    context.afterwards(lambda: _catch_up(context, opened))
    return answer


async def _open(context: Context, params: proto.ThreadResumeParams) -> Opened:
    """History wins over a path, and that over an id (0.169.0)."""
    threads, overrides, client = context.services.threads, overrides_of(params), client_of(context)
    if params.history is not None:
        forks = context.services.life().forks
        return await forks.from_items(params.thread_id, params.history, overrides, client)
    if params.path is not None:
        thread_id = await threads.adopt(params.path)
    else:
        check_id(params.thread_id, "session")
        thread_id = params.thread_id
    await context.services.budgets.bring_payers(thread_id, client)
    return await threads.resume(thread_id, overrides, client)


def _catch_up(context: Context, opened: Opened) -> None:
    """What a newcomer has to hear after the answer: warnings, goal, open questions; then go on."""
    thread_id, subscriptions = str(opened.thread.thread_id), context.services.subscriptions
    for text in opened.warnings:
        params = {"threadId": thread_id, "message": text}
        subscriptions.notify(context.session, "warning", params)
    goal = opened.thread.log.goal
    if goal is not None:
        params = {"threadId": thread_id, "turnId": None, "goal": goal}
        subscriptions.notify(context.session, "thread/goal/updated", params)
    context.services.threads.answered(thread_id)
    subscriptions.requests.replay(context.session, thread_id)
    for below in context.services.threads.loaded.below(thread_id):
        subscriptions.subscribe(context.session, below)
        subscriptions.requests.replay(context.session, below)
    context.services.queues.wake(thread_id)


async def read(context: Context, params: proto.ThreadReadParams) -> proto.ReadThread:
    """A thread's summary, with its turns on request; loads nothing."""
    check_id(params.thread_id)
    threads = context.services.threads
    last_seq = context.services.threads.feed.last(params.thread_id)
    try:
        summary = await threads.read(params.thread_id)
        if params.include_turns and last_seq is None:
            summary.turns, last_seq = await context.services.life().events.turns(params.thread_id)
        elif params.include_turns:
            summary.turns = await threads.turns(params.thread_id)
    except ThreadNotFound:
        raise invalid_request(f"thread not loaded: {params.thread_id}") from None
    return proto.ReadThread(thread=summary, last_seq=last_seq)


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
        if not is_uuid(params.cursor):
            raise invalid_request(f"invalid cursor: {params.cursor}")
        ids = [thread_id for thread_id in ids if thread_id > params.cursor]
    limit = max(1, params.limit) if params.limit is not None else len(ids)
    page, rest = ids[:limit], ids[limit:]
    return proto.LoadedListResult(data=page, next_cursor=page[-1] if rest and page else None)


async def unsubscribe(context: Context, params: proto.ThreadIdParams) -> proto.UnsubscribeResult:
    """Hear a thread no more; when nobody does, it is closed once it is idle (seed 002)."""
    check_id(params.thread_id)
    subscriptions, threads = context.services.subscriptions, context.services.threads
    thread_id = params.thread_id
    if threads.loaded.summary(thread_id) is None:
        return proto.UnsubscribeResult(status="notLoaded")
    if not subscriptions.subscribed(context.session, thread_id):
        return proto.UnsubscribeResult(status="notSubscribed")
    if subscriptions.unsubscribe(context.session, thread_id):
        context.afterwards(lambda: context.services.subscriptions.on_unwatched(thread_id))
    return proto.UnsubscribeResult(status="unsubscribed")
