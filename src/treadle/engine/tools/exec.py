"""`exec_command` and `write_stdin`: the model's way to run commands and to talk to them.

Owns arguments, time and output budgets, and the texts that the model reads (those of reference
0.169.0, which models are trained on). Running commands live in `exec_sessions`.
"""

import asyncio
import errno
import logging
import os
import re
import secrets
import shlex
import stat
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from treadle.domain.items import CommandExecution
from treadle.engine.sandbox.launch_plan import SandboxUnavailable
from treadle.engine.tools.approval_rules import CommandRequest
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.command_actions import command_actions
from treadle.engine.tools.edit_files import apply_patch, patch_in_script
from treadle.engine.tools.exec_sessions import ExecSession, ExecSessions, Launch
from treadle.engine.tools.login_environment import Login, LoginEnvironments
from treadle.engine.tools.permits import Go, Permits
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.tool_specs import EXEC_COMMAND, WRITE_STDIN
from treadle.kit.processes import SpawnError

logger = logging.getLogger(__name__)

NO_SANDBOX = (
    "commands cannot run here: the policy asks for a sandbox and there is none. Trying again does "
    "not help; tell the user to run `treadle doctor`."
)
MAX_OUTPUT_TOKENS = 10_000
_EXEC_YIELD_MS = (250, 30_000)
_TYPE_YIELD_MS = (250, 30_000)
_POLL_YIELD_MS = (5_000, 300_000)
CALL_ID_VARIABLES = ("CODEX_TOOL_CALL_ID", "TREADLE_TOOL_CALL_ID")


class _ExecArguments(msgspec.Struct):
    cmd: str
    workdir: str | None = None
    shell: str | None = None
    login: bool = True
    tty: bool = False
    yield_time_ms: float = 10_000
    max_output_tokens: float | None = None
    sandbox_permissions: str | None = None
    justification: str | None = None
    prefix_rule: list[str] | None = None


class _StdinArguments(msgspec.Struct):
    session_id: int
    chars: str = ""
    yield_time_ms: float | None = None
    max_output_tokens: float | None = None


class ShellCommand(msgspec.Struct, frozen=True):
    """A command as a tool wants it run: its words, how people see it, and where."""

    argv: tuple[str, ...]
    script: str
    """The script inside, for reading what it does."""
    cwd: str
    terminal: bool = False
    source: str = "unifiedExecStartup"
    """The item's source."""
    escalated: bool = False
    """Whether the model asks for it to run outside the sandbox."""
    justification: str | None = None
    prefix: tuple[str, ...] | None = None
    """A command prefix that the model would have allowed for good."""
    login: Login | None = None
    """What the login shell in `argv` would change, where that is known: it need not run."""

    def to_run(self, env: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """The words and the environment that come to the same as `argv` with `env`."""
        if self.login is None:
            return self.argv, dict(env)
        return (self.argv[0], "-c", *self.argv[2:]), self.login.apply(env)


class ExecCommand:
    """The tool that starts a command and waits for a while."""

    name = "exec_command"

    def __init__(
        self,
        sessions: ExecSessions,
        shell: str = "/bin/bash",
        permits: Permits | None = None,
        logins: LoginEnvironments | None = None,
    ) -> None:
        """Keep what outlives its call in `sessions`; `shell` runs scripts unless told otherwise.

        `permits` are the thread's; without, nothing accepted is remembered. `logins` spare
        commands the start of a login shell; without, each has its own.
        """
        self._sessions = sessions
        self._permits = permits or Permits()
        self._logins = logins
        self._shell = shell if os.access(shell, os.X_OK) else "/bin/sh"

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return EXEC_COMMAND

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Run a script; its output, or the number of the session it became."""
        try:
            wanted = read_arguments(call.arguments, _ExecArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        cwd = absolute_path(wanted.workdir, context)
        typed_patch = patch_in_script(wanted.cmd)
        if typed_patch is not None:
            folder = os.path.join(cwd, typed_patch.folder) if typed_patch.folder else cwd
            output = await apply_patch(
                typed_patch.patch, call.call_id, folder, context, self._permits
            )
            if not output.success:
                return output
            return ToolOutput(text=f"Wall time: 0.0000 seconds\nOutput:\n{output.text}")
        flag = "-lc" if wanted.login else "-c"
        command = ShellCommand(
            argv=(wanted.shell or self._shell, flag, wanted.cmd),
            script=wanted.cmd,
            cwd=cwd,
            terminal=wanted.tty,
            escalated=wanted.sandbox_permissions == "require_escalated",
            justification=wanted.justification,
            prefix=tuple(wanted.prefix_rule) if wanted.prefix_rule else None,
            login=self._login(wanted, context),
        )
        session = await open_session(self._sessions, command, call, context, self._permits)
        if isinstance(session, ToolOutput):
            return session
        started = context.clock.monotonic()
        seconds = _clamp(wanted.yield_time_ms, _EXEC_YIELD_MS)
        await wait_or_stop(self._sessions, session, seconds)
        if session.ended.is_set():
            self._sessions.forget(session)
        session.kept = not session.ended.is_set()
        told = tell(session, context.clock.monotonic() - started, wanted.max_output_tokens)
        return msgspec.structs.replace(told, notes=session.launch.notes)

    def _login(self, wanted: _ExecArguments, context: ToolContext) -> Login | None:
        shell = wanted.shell or self._shell
        if not wanted.login or self._logins is None or shell != self._logins.shell:
            return None
        return self._logins.find(context.env, context.sandbox, context.settings.sandbox)


class WriteStdin:
    """The tool that types into a running command, or just listens to it."""

    name = "write_stdin"

    def __init__(self, sessions: ExecSessions) -> None:
        """Talk to the commands in `sessions`."""
        self._sessions = sessions

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return WRITE_STDIN

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Type, wait, and tell what the command said."""
        try:
            wanted = read_arguments(call.arguments, _StdinArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        session = self._sessions.get(wanted.session_id, context.thread_id)
        if session is None:
            return _stdin_failed(f"Unknown process id {wanted.session_id}")
        started = session.last_used = context.clock.monotonic()
        problem = await _type(session, wanted.chars, context)
        if problem is not None:
            return _stdin_failed(problem)
        await _wait(session, _typing_wait(wanted))
        if session.ended.is_set():
            self._sessions.forget(session)
        return tell(session, context.clock.monotonic() - started, wanted.max_output_tokens)


def absolute_path(path: str | None, context: ToolContext) -> str:
    """A path as the model wrote it, taken from the thread's folder on; None is that folder."""
    return os.path.normpath(os.path.join(context.settings.cwd, path or "."))


async def open_session(
    sessions: ExecSessions,
    command: ShellCommand,
    call: ToolCall,
    context: ToolContext,
    permits: Permits,
) -> ExecSession | ToolOutput:
    """Start a command once it is permitted; what the model is told when it is not, or fails."""
    item = CommandExecution(
        id=call.call_id,
        command=display_command(command.argv),
        cwd=command.cwd,
        source="agent",
        command_actions=command_actions(command.script, command.cwd),
    )
    request = CommandRequest(
        argv=command.argv,
        cwd=command.cwd,
        escalated=command.escalated,
        justification=command.justification,
        prefix=command.prefix,
    )
    go = await permits.command(request, item, context)
    if isinstance(go, ToolOutput):
        return go
    if not go.announced:
        item.source = command.source
    try:
        _check_folder(command.cwd)
        argv, env = command.to_run(context.env)
        plan = context.sandbox.plan(
            argv,
            cwd=command.cwd,
            env=_environment(env, call.call_id),
            policy=go.policy,
            workspace_roots=(context.settings.cwd, *context.settings.workspace_roots),
        )
        launch = Launch(
            plan,
            item,
            context.thread_id,
            context.turn_id,
            command.terminal,
            announced=go.announced,
            notes=go.notes,
        )
        return await sessions.open(launch, context.reporter, context.clock)
    except SandboxUnavailable as error:
        # Why is for the user, who was told in a warning: a model would only try to get around it.
        logger.warning("command %s not started: %s", call.call_id, error)
        return _not_started(item, NO_SANDBOX, go, context)
    except SpawnError as error:
        reason = f"Failed to create unified exec process: {_system_reason(error)}"
        return _not_started(item, reason, go, context)


def display_command(argv: Sequence[str]) -> str:
    """A command as people see it."""
    return " ".join(_quoted(word) for word in argv)


def _quoted(word: str) -> str:
    """A word as a shell would need it, with double quotes where those read better."""
    if "'" in word and not re.search(r"[$`\\!^]", word):
        return '"' + word.replace('"', '\\"') + '"'
    return shlex.quote(word)


def _check_folder(path: str) -> None:
    """Raise SpawnError like the spawn itself would; a sandbox's launcher could only say less."""
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    except OSError as error:
        raise SpawnError(str(error)) from error


def _environment(env: Mapping[str, str], call_id: str) -> dict[str, str]:
    return {**env, **dict.fromkeys(CALL_ID_VARIABLES, call_id)}


def _system_reason(error: SpawnError) -> str:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"{os.strerror(cause.errno)} (os error {cause.errno})"
    return str(error) or "the program could not be started"


def _not_started(item: CommandExecution, reason: str, go: Go, context: ToolContext) -> ToolOutput:
    if not go.announced:
        context.reporter.started(item)
    context.reporter.completed(
        msgspec.structs.replace(
            item, status="failed", aggregated_output=reason, exit_code=-1, duration_ms=0
        )
    )
    rejected = f'CreateProcess {{ message: "Rejected(\\"{reason}\\")" }}'
    return ToolOutput(text=f"exec_command failed: {rejected}", success=False, notes=go.notes)


async def wait_or_stop(sessions: ExecSessions, session: ExecSession, seconds: float) -> None:
    """Wait for the end for a while; a cancel meanwhile ends the command and its tree."""
    try:
        await _wait(session, seconds)
    except asyncio.CancelledError:
        sessions.forget(session)
        await session.stop()
        raise


async def _wait(session: ExecSession, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await session.ended.wait()
    except TimeoutError:
        return


def tell(session: ExecSession, wall_seconds: float, budget: float | None) -> ToolOutput:
    """What the model reads about a command after waiting for it."""
    tokens = MAX_OUTPUT_TOKENS if budget is None else max(1, min(int(budget), MAX_OUTPUT_TOKENS))
    output = session.take_output()
    if session.ended.is_set():
        state = f"Process exited with code {session.exit_code}"
    else:
        state = f"Process running with session ID {session.number}"
    text = (
        f"Chunk ID: {secrets.token_hex(3)}\nWall time: {wall_seconds:.4f} seconds\n{state}\n"
        f"Original token count: {output.tokens}\nOutput:\n{output.for_model(tokens)}"
    )
    return ToolOutput(text=text)


async def _type(session: ExecSession, text: str, context: ToolContext) -> str | None:
    """Type and announce it; the reason when that was impossible."""
    if session.ended.is_set():
        return None
    if text and not session.launch.terminal:
        return (
            "stdin is closed for this session; rerun exec_command with tty=true to keep stdin open"
        )
    context.reporter.typed(session.item.id, str(session.number), text)
    try:
        await session.type_in(text) if text else None
    except BrokenPipeError:
        return None  # it just ended; its exit status is the better answer
    except TimeoutError:
        return "the process does not read its input"
    return None


def _typing_wait(wanted: _StdinArguments) -> float:
    bounds = _TYPE_YIELD_MS if wanted.chars else _POLL_YIELD_MS
    asked = bounds[0] if wanted.yield_time_ms is None else wanted.yield_time_ms
    return _clamp(asked, bounds)


def _clamp(milliseconds: float, bounds: tuple[int, int]) -> float:
    return max(bounds[0], min(milliseconds, bounds[1])) / 1000


def _stdin_failed(reason: str) -> ToolOutput:
    return ToolOutput(text=f"write_stdin failed: {reason}", success=False)
