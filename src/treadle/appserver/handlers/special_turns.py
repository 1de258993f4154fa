"""`review/start`, `thread/compact/start`, `thread/shellCommand`: to their service and back."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id, client_of
from treadle.domain.items import TextInput, UserMessage
from treadle.engine.services.special_turns import StartedReview
from treadle.wire.protocol import special_turns as proto
from treadle.wire.protocol.threads import Empty, ThreadIdParams


async def compact(context: Context, params: ThreadIdParams) -> Empty:
    """Begin to compact a thread's context."""
    check_id(params.thread_id)
    await context.services.special_turns().compact(params.thread_id)
    return Empty()


async def review(context: Context, params: proto.ReviewStartParams) -> proto.ReviewStartResult:
    """Begin a review, on the thread itself or on a fork of it."""
    check_id(params.thread_id)
    service = context.services.special_turns()
    if params.delivery == "detached":
        started = await service.review_apart(params.thread_id, params.target, client_of(context))
        thread = started.thread
        context.services.subscriptions.subscribe(context.session, thread.thread_id)
        context.afterwards(lambda: context.services.threads.announce_start(thread))
    else:
        started = await service.review(params.thread_id, params.target)
    return _answer(started)


def _answer(started: StartedReview) -> proto.ReviewStartResult:
    turn = started.turn
    # As the references show it: a message of the turn's own id with the label as its text.
    turn.items = [UserMessage(id=turn.id, content=[TextInput(text=started.label)])]
    return proto.ReviewStartResult(turn=turn, review_thread_id=started.thread.thread_id)


async def shell_command(context: Context, params: proto.ShellCommandParams) -> Empty:
    """Begin to run a command of the user."""
    check_id(params.thread_id)
    await context.services.special_turns().shell_command(
        params.thread_id, params.command, params.timeout_ms
    )
    return Empty()
