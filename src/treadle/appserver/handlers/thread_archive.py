"""`thread/archive`, `thread/unarchive`, `thread/delete`: a thread and all that it spawned."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id
from treadle.wire.protocol import threads as proto


async def archive(context: Context, params: proto.ThreadIdParams) -> proto.Empty:
    """Move a thread and its descendants out of the active ones."""
    check_id(params.thread_id, "session")
    announce = await context.services.life().families.archive(params.thread_id)
    context.afterwards(announce)
    return proto.Empty()


async def unarchive(context: Context, params: proto.ThreadIdParams) -> proto.ThreadResult:
    """Bring an archived thread and its descendants back."""
    check_id(params.thread_id)
    summary, announce = await context.services.life().families.unarchive(params.thread_id)
    context.afterwards(announce)
    return proto.ThreadResult(thread=summary)


async def delete(context: Context, params: proto.ThreadIdParams) -> proto.Empty:
    """Delete a thread and its descendants for good."""
    check_id(params.thread_id)
    announce = await context.services.life().families.delete(params.thread_id)
    context.afterwards(announce)
    return proto.Empty()
