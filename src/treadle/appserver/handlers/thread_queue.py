"""`thread/queue/*`: messages that wait for their turn."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id
from treadle.wire.protocol import thread_work as proto
from treadle.wire.protocol.errors import invalid_request
from treadle.wire.protocol.threads import Empty


async def add(context: Context, params: proto.QueueAddParams) -> proto.QueueSubmissionResult:
    """Put a message at the end; an idle thread takes it at once."""
    check_id(params.thread_id)
    submission = await context.services.queues.add(
        params.thread_id,
        params.client_user_message_id,
        params.input,
        params.responsesapi_client_metadata,
    )
    return proto.QueueSubmissionResult(queued_submission=submission)


async def list_queue(context: Context, params: proto.QueueListParams) -> proto.QueueListResult:
    """A page of what waits; cursors are offsets in decimal (0.169.0)."""
    check_id(params.thread_id)
    waiting = await context.services.queues.waiting(params.thread_id)
    begin = 0
    if params.cursor is not None:
        if not params.cursor.isdecimal():
            raise invalid_request(f"invalid cursor: {params.cursor}")
        begin = int(params.cursor)
    end = begin + max(1, params.limit) if params.limit is not None else len(waiting)
    return proto.QueueListResult(
        data=waiting[begin:end], next_cursor=str(end) if end < len(waiting) else None
    )


async def update(context: Context, params: proto.QueueUpdateParams) -> proto.QueueSubmissionResult:
    """Change what a waiting message says."""
    check_id(params.thread_id)
    submission = await context.services.queues.update(
        params.thread_id,
        params.queued_submission_id,
        params.input,
        params.responsesapi_client_metadata,
    )
    return proto.QueueSubmissionResult(queued_submission=submission)


async def delete(context: Context, params: proto.QueueDeleteParams) -> proto.QueueDeleteResult:
    """Take a waiting message away."""
    check_id(params.thread_id)
    queues = context.services.queues
    deleted = await queues.delete(params.thread_id, params.queued_submission_id)
    return proto.QueueDeleteResult(deleted=deleted)


async def reorder(context: Context, params: proto.QueueReorderParams) -> Empty:
    """Put what waits in another order."""
    check_id(params.thread_id)
    await context.services.queues.reorder(params.thread_id, params.queued_submission_ids)
    return Empty()


async def start(context: Context, params: proto.QueueStartParams) -> proto.QueueStartResult:
    """Go on with what waits."""
    check_id(params.thread_id)
    queues = context.services.queues
    turn = await queues.start(params.thread_id, params.queued_submission_id)
    return proto.QueueStartResult(turn=turn)
