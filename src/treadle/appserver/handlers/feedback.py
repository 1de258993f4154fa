"""`feedback/*`: from parameters to the archive and back."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id
from treadle.engine.services.feedback import Words
from treadle.wire.protocol import feedback as proto
from treadle.wire.protocol.errors import INTERNAL, RpcError


async def save(context: Context, params: proto.FeedbackSaveParams) -> proto.FeedbackSaved:
    """Write an archive that the user can pass on."""
    if params.thread_id is not None:
        check_id(params.thread_id)
    words = Words(
        classification=params.classification,
        reason=params.reason,
        thread_id=params.thread_id,
        with_logs=params.include_logs,
        files=tuple(params.extra_log_files or ()),
        tags=params.tags or {},
    )
    saved = await context.services.feedback().save(words, params.save_path)
    return proto.FeedbackSaved(
        saved_path=saved.path, thread_id=saved.thread_id, prompt_hash=saved.prompt_hash
    )


async def upload(context: Context, params: proto.FeedbackParams) -> proto.FeedbackSent:
    """Nothing is sent anywhere, and the answer says what to do instead."""
    if params.thread_id is not None:
        check_id(params.thread_id)
    context.services.feedback().check()
    raise RpcError(
        INTERNAL,
        "failed to upload feedback: this server sends nothing to anybody; "
        "write it to a file with feedback/save and pass that on",
    )
