"""`process/*`: a client's own processes outside the sandbox, from parameters and back."""

from collections.abc import Awaitable

import msgspec

from treadle.appserver.context import Context
from treadle.appserver.handlers.commands import checked_size, written
from treadle.appserver.handlers.files import absolute
from treadle.engine.services import commands
from treadle.wire.protocol import commands as proto
from treadle.wire.protocol.errors import INTERNAL, RpcError, invalid_params, invalid_request
from treadle.wire.protocol.threads import Empty


class ProcessTable(commands.Commands):
    """A connection's processes of `process/spawn`."""

    def __init__(self) -> None:
        super().__init__("no active process for process handle", "duplicate active process handle")


async def spawn(context: Context, params: proto.ProcessSpawnParams) -> Empty:
    """Start a process; its end is told later."""
    order = _order(context, params)
    session, handle = context.session, params.process_handle

    def tell(stream: commands.Stream, data: bytes, capped: bool) -> Awaitable[None]:
        output = proto.ProcessOutput(
            process_handle=handle, stream=stream, delta_base64=data, cap_reached=capped
        )
        context.services.subscriptions.notify(session, "process/outputDelta", output)
        return session.peer.outbox.room()

    command = commands.Command(order, tell)
    table = session.holding(ProcessTable, ProcessTable)
    table.add(handle, command)
    try:
        await command.start()
    except BaseException as error:
        table.drop(handle, command)
        if isinstance(error, commands.CommandFailed):
            raise RpcError(INTERNAL, f"failed to spawn process: {error}") from error
        raise

    async def follow() -> None:
        try:
            code = await command.finish()
        finally:
            table.drop(handle, command)
        ended = proto.ProcessExited(
            process_handle=handle,
            exit_code=code,
            output_drain_timed_out=command.drain_timed_out,
            stdout=command.stdout.text,
            stdout_cap_reached=command.stdout.capped,
            stderr=command.stderr.text,
            stderr_cap_reached=command.stderr.capped,
        )
        context.services.subscriptions.notify(session, "process/exited", ended)

    def begin() -> None:
        session.scope.start(follow(), f"process {handle}")

    context.afterwards(begin)
    return Empty()


async def write(context: Context, params: proto.ProcessWriteParams) -> Empty:
    """Type into a process."""
    data = written("process/writeStdin", params.delta_base64, close=params.close_stdin)
    command = await _find(context, params.process_handle)
    await command.write(data, close=params.close_stdin)
    return Empty()


async def kill(context: Context, params: proto.ProcessIdParams) -> Empty:
    """Kill a process."""
    (await _find(context, params.process_handle)).kill()
    return Empty()


async def resize(context: Context, params: proto.ProcessResizeParams) -> Empty:
    """Give a process's terminal another size."""
    rows, cols = checked_size("process/resizePty", params.size)
    (await _find(context, params.process_handle)).resize(rows, cols)
    return Empty()


async def _find(context: Context, handle: str) -> commands.Command:
    return await context.session.holding(ProcessTable, ProcessTable).find(handle)


def _order(context: Context, params: proto.ProcessSpawnParams) -> commands.Order:
    if not params.command:
        raise invalid_request("command must not be empty")
    if not params.process_handle:
        raise invalid_request("processHandle must not be empty")
    cwd = absolute(params.cwd)
    timeout, cap = params.timeout_ms, params.output_bytes_cap
    if isinstance(timeout, int) and timeout < 0:
        raise invalid_params(f"process/spawn timeoutMs must be non-negative, got {timeout}")
    if params.size is not None and not params.tty:
        raise invalid_params("process/spawn size requires tty: true")
    size = (24, 80) if params.tty else None
    if params.size is not None:
        size = checked_size("process/spawn", params.size)
    seconds = commands.DEFAULT_TIMEOUT_SECONDS
    env = commands.merged(context.services.command_host().environment(filtered=False), params.env)
    return commands.Order(
        argv=tuple(params.command),
        make_plan=lambda: commands.LaunchPlan(argv=tuple(params.command), cwd=cwd, env=env),
        stream_stdin=params.stream_stdin or params.tty,
        stream_output=params.stream_stdout_stderr or params.tty,
        terminal_size=size,
        timeout_seconds=(
            seconds
            if isinstance(timeout, msgspec.UnsetType)
            else None
            if timeout is None
            else timeout / 1000
        ),
        cap_bytes=commands.DEFAULT_CAP_BYTES if isinstance(cap, msgspec.UnsetType) else cap,
    )
