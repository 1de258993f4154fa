"""`thread/fork`: a new thread that knows what another one knew."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import (
    check_id,
    client_of,
    overrides_of,
    session_facts,
    tell_usage,
)
from treadle.engine.services.thread_fork import ForkRequest
from treadle.wire.protocol.errors import unsupported
from treadle.wire.protocol.thread_changes import ThreadForkParams
from treadle.wire.protocol.threads import ThreadSession


async def fork(context: Context, params: ThreadForkParams) -> ThreadSession:
    """Fork a thread; the caller is subscribed to the new one."""
    if params.attach_to_source or params.experimental_prediction_mode:
        raise unsupported("thread/fork with attachToSource or prediction mode is not supported yet")
    if params.path is None:
        check_id(params.thread_id, "session")
    opened = await context.services.life().forks.fork(
        ForkRequest(
            thread_id=params.thread_id,
            path=params.path,
            overrides=overrides_of(params),
            client=client_of(context),
            last_turn_id=params.last_turn_id,
            before_turn_id=params.before_turn_id,
            ephemeral=params.ephemeral,
            exclude_turns=params.exclude_turns,
            thread_source=params.thread_source,
        )
    )
    thread = opened.thread
    context.services.subscriptions.subscribe(context.session, thread.thread_id)
    context.afterwards(lambda: context.services.threads.announce_start(thread))
    tell_usage(context, thread.thread_id, opened.usage)
    answer = ThreadSession(**session_facts(opened))
    if not params.exclude_turns:
        answer.thread.turns = opened.turns
    return answer
