"""`command/exec*`: from parameters to a connection's commands and back."""

from collections.abc import Awaitable

from treadle.appserver.context import Context
from treadle.appserver.handlers import base64_input
from treadle.domain.policy import DangerFullAccess, ReadOnly, SandboxPolicy, WorkspaceWrite
from treadle.engine.services import commands
from treadle.engine.services.errors import Refused
from treadle.wire.protocol import commands as proto
from treadle.wire.protocol.errors import INTERNAL, RpcError, invalid_params, invalid_request
from treadle.wire.protocol.threads import Empty

_PROFILES: dict[str, SandboxPolicy] = {
    ":read-only": ReadOnly(),
    ":workspace": WorkspaceWrite(),
    ":danger-full-access": DangerFullAccess(),
}


class ExecTable(commands.Commands):
    """A connection's commands of `command/exec`."""

    def __init__(self) -> None:
        super().__init__(
            "no active command/exec for process id",
            "duplicate active command/exec process id",
        )


async def execute(context: Context, params: proto.CommandExecParams) -> proto.CommandExecResult:
    """Run a command to its end."""
    _check(params)
    session, name = context.session, params.process_id

    def tell(stream: commands.Stream, data: bytes, capped: bool) -> Awaitable[None]:
        output = proto.CommandOutput(
            process_id=name or "", stream=stream, delta_base64=data, cap_reached=capped
        )
        context.services.subscriptions.notify(session, "command/exec/outputDelta", output)
        return session.peer.outbox.room()

    command = commands.Command(_order(context, params), tell)
    table = session.holding(ExecTable, ExecTable)
    table.add(name, command)
    try:
        await command.start()
        code = await command.finish()
    except commands.CommandFailed as error:
        raise RpcError(INTERNAL, f"failed to spawn command: {error}") from error
    finally:
        table.drop(name, command)
    return proto.CommandExecResult(
        exit_code=code, stdout=command.stdout.text, stderr=command.stderr.text
    )


async def write(context: Context, params: proto.CommandWriteParams) -> Empty:
    """Type into a command."""
    data = written("command/exec/write", params.delta_base64, close=params.close_stdin)
    command = await _find(context, params.process_id)
    await command.write(data, close=params.close_stdin)
    return Empty()


async def terminate(context: Context, params: proto.CommandIdParams) -> Empty:
    """Kill a command."""
    (await _find(context, params.process_id)).kill()
    return Empty()


async def resize(context: Context, params: proto.CommandResizeParams) -> Empty:
    """Give a command's terminal another size."""
    rows, cols = checked_size("command/exec", params.size)
    (await _find(context, params.process_id)).resize(rows, cols)
    return Empty()


async def _find(context: Context, name: str) -> commands.Command:
    return await context.session.holding(ExecTable, ExecTable).find(name)


def written(method: str, delta: str | None, *, close: bool) -> bytes:
    """The bytes to write; raises RpcError when there is nothing to do or they are malformed."""
    if delta is None and not close:
        raise invalid_params(f"{method} requires deltaBase64 or closeStdin")
    try:
        return base64_input.decode(delta or "")
    except ValueError as error:
        raise invalid_params(f"invalid deltaBase64: {error}") from None


def checked_size(method: str, size: proto.TerminalSize) -> tuple[int, int]:
    """Rows and columns; raises RpcError for what no terminal has."""
    if size.rows <= 0 or size.cols <= 0:
        raise invalid_params(f"{method} size rows and cols must be greater than 0")
    if size.rows > 0xFFFF or size.cols > 0xFFFF:
        raise invalid_params(f"{method} size rows and cols must be at most 65535")
    return size.rows, size.cols


def _check(params: proto.CommandExecParams) -> None:
    if not params.command:
        raise invalid_request("command must not be empty")
    if params.output_bytes_cap is not None and params.disable_output_cap:
        text = "command/exec cannot set both outputBytesCap and disableOutputCap"
        raise invalid_params(text)
    if params.timeout_ms is not None and params.disable_timeout:
        raise invalid_params("command/exec cannot set both timeoutMs and disableTimeout")
    if params.timeout_ms is not None and params.timeout_ms < 0:
        text = f"command/exec timeoutMs must be non-negative, got {params.timeout_ms}"
        raise invalid_params(text)
    if params.size is not None and not params.tty:
        raise invalid_params("command/exec size requires tty: true")
    if params.process_id is None and (
        params.tty or params.stream_stdin or params.stream_stdout_stderr
    ):
        raise invalid_request("command/exec tty or streaming requires a client-supplied processId")


def _order(context: Context, params: proto.CommandExecParams) -> commands.Order:
    host = context.services.command_host()
    policy = _policy(params)
    size = (24, 80) if params.tty else None
    if params.size is not None:
        size = checked_size("command/exec", params.size)
    timeout = commands.DEFAULT_TIMEOUT_SECONDS
    if params.timeout_ms is not None:
        timeout = params.timeout_ms / 1000
    cap = commands.DEFAULT_CAP_BYTES
    if params.output_bytes_cap is not None:
        cap = max(params.output_bytes_cap, 0)
    cwd = host.folder(params.cwd)

    def plan() -> commands.LaunchPlan:
        env = commands.merged(host.environment(filtered=True), params.env)
        return host.confine(params.command, cwd, env, policy)

    return commands.Order(
        argv=tuple(params.command),
        make_plan=plan,
        stream_stdin=params.stream_stdin or params.tty,
        stream_output=params.stream_stdout_stderr or params.tty,
        terminal_size=size,
        timeout_seconds=None if params.disable_timeout else timeout,
        cap_bytes=None if params.disable_output_cap else cap,
    )


def _policy(params: proto.CommandExecParams) -> SandboxPolicy | None:
    if params.permission_profile is None:
        return params.sandbox_policy
    if params.sandbox_policy is not None:
        raise invalid_request("`permissionProfile` cannot be combined with `sandboxPolicy`")
    if params.permission_profile not in _PROFILES:
        known = ", ".join(_PROFILES)
        raise Refused(f"unknown permission profile: {params.permission_profile}; one of {known}")
    return _PROFILES[params.permission_profile]
