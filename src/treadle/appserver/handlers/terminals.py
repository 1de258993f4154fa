"""`thread/backgroundTerminals/*`: what goes on behind a thread's turns."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.paging import page
from treadle.appserver.handlers.thread_session import check_id
from treadle.wire.protocol import terminals as proto
from treadle.wire.protocol.threads import Empty, ThreadIdParams


async def list_terminals(
    context: Context, params: proto.TerminalsListParams
) -> proto.TerminalsListResult:
    """The background terminals of a thread."""
    check_id(params.thread_id)
    running = [
        proto.BackgroundTerminal(
            item_id=session.item.id,
            process_id=session.item.process_id or "",
            command=session.item.command,
            cwd=session.item.cwd,
            os_pid=session.pid,
        )
        for session in context.services.life().terminals.running(params.thread_id)
    ]
    data, following = page(running, params.cursor, params.limit)
    return proto.TerminalsListResult(data=data, next_cursor=following)


async def terminate(
    context: Context, params: proto.TerminalTerminateParams
) -> proto.TerminalTerminateResult:
    """End one of them."""
    check_id(params.thread_id)
    terminals = context.services.life().terminals
    terminated = await terminals.terminate(params.thread_id, params.process_id)
    return proto.TerminalTerminateResult(terminated=terminated)


async def clean(context: Context, params: ThreadIdParams) -> Empty:
    """End all of them."""
    check_id(params.thread_id)
    await context.services.life().terminals.clean(params.thread_id)
    return Empty()
