"""`thread/rollback`, `thread/revert`, `thread/inject_items`: what a loaded thread's model knows."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id
from treadle.engine.services.thread_history import backwards_cursors
from treadle.wire.protocol import thread_changes as proto
from treadle.wire.protocol.threads import Empty, ThreadResult


async def rollback(context: Context, params: proto.ThreadRollbackParams) -> ThreadResult:
    """Take the last turns back; answers with those that are left."""
    check_id(params.thread_id)
    thread = await context.services.life().rewinds.rollback(params.thread_id, params.num_turns)
    summary = thread.summary()
    if thread.log.materialized:
        summary.turns = await context.services.threads.turns(params.thread_id)
    return ThreadResult(thread=summary)


async def revert(context: Context, params: proto.ThreadRevertParams) -> proto.ThreadRevertResult:
    """Take back a turn and all after it."""
    check_id(params.thread_id)
    rewinds = context.services.life().rewinds
    thread = await rewinds.revert(params.thread_id, params.before_turn_id)
    context.afterwards(lambda: rewinds.announce_revert(params.thread_id))
    turns = await context.services.threads.turns(params.thread_id)
    turn_cursor, item_cursor = backwards_cursors(params.thread_id, turns)
    return proto.ThreadRevertResult(
        thread=thread.summary(),
        turns_backwards_cursor=turn_cursor,
        items_backwards_cursor=item_cursor,
    )


async def inject_items(context: Context, params: proto.InjectItemsParams) -> Empty:
    """Add items to the model's context."""
    check_id(params.thread_id)
    await context.services.life().rewinds.inject(params.thread_id, params.items)
    return Empty()
