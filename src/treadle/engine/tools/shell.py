"""The classic command tools `shell` and `shell_command`: run, wait for the end, answer.

Not offered, but answered when a model calls them from habit. The same commands underneath as
`exec_command`; what runs past its time limit is ended with its tree.
"""

import os
import re
import shlex
from typing import Any

import msgspec

from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.edit_files import apply_patch, patch_in_script
from treadle.engine.tools.exec import (
    MAX_OUTPUT_TOKENS,
    ShellCommand,
    absolute_path,
    open_session,
    wait_or_stop,
)
from treadle.engine.tools.exec_sessions import ExecSessions
from treadle.engine.tools.permits import Permits
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.tool_specs import SHELL, SHELL_COMMAND

DEFAULT_TIMEOUT_MS = 10_000
TIMEOUT_EXIT_CODE = 124
"""As timeout(1) and the references have it."""


class _Limits(msgspec.Struct, kw_only=True):
    workdir: str | None = None
    timeout_ms: float | None = None
    sandbox_permissions: str | None = None
    justification: str | None = None
    prefix_rule: list[str] | None = None


class _ShellArguments(_Limits, kw_only=True):
    command: list[str]


class _ScriptArguments(_Limits, kw_only=True):
    command: str
    login: bool = True


class Shell:
    """Runs a program with arguments."""

    name = "shell"

    def __init__(self, sessions: ExecSessions, permits: Permits | None = None) -> None:
        """Run commands in `sessions`, so that they are bounded and stopped with the others.

        `permits` are the thread's; without, nothing accepted is remembered.
        """
        self._sessions = sessions
        self._permits = permits or Permits()

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return SHELL

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Run the program to its end or its time limit."""
        try:
            wanted = read_arguments(call.arguments, _ShellArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        if not wanted.command:
            return ToolOutput(text="shell failed: command is empty", success=False)
        argv = tuple(wanted.command)
        command = _command(argv, _script(wanted.command), wanted, context)
        run = _Run(self._sessions, self._permits, command, wanted.timeout_ms)
        return await run.to_end(call, context)


class ShellScript:
    """Runs a script in the user's shell."""

    name = "shell_command"

    def __init__(
        self, sessions: ExecSessions, shell: str = "/bin/bash", permits: Permits | None = None
    ) -> None:
        """Run commands in `sessions` with `shell`, as far as the thread's `permits` allow."""
        self._sessions = sessions
        self._permits = permits or Permits()
        self._shell = shell if os.access(shell, os.X_OK) else "/bin/sh"

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return SHELL_COMMAND

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Run the script to its end or its time limit."""
        try:
            wanted = read_arguments(call.arguments, _ScriptArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        flag = "-lc" if wanted.login else "-c"
        argv = (self._shell, flag, wanted.command)
        command = _command(argv, wanted.command, wanted, context)
        run = _Run(self._sessions, self._permits, command, wanted.timeout_ms)
        return await run.to_end(call, context)


def _script(command: list[str]) -> str:
    """The script inside `bash -lc <script>`, or the command as one."""
    shells = re.fullmatch(r"(?:.*/)?(?:bash|zsh|sh)", command[0])
    if len(command) == 3 and shells and command[1] in ("-c", "-lc"):
        return command[2]
    return shlex.join(command)


def _command(
    argv: tuple[str, ...], script: str, wanted: _Limits, context: ToolContext
) -> ShellCommand:
    return ShellCommand(
        argv,
        script,
        absolute_path(wanted.workdir, context),
        source="agent",
        escalated=wanted.sandbox_permissions == "require_escalated",
        justification=wanted.justification,
        prefix=tuple(wanted.prefix_rule) if wanted.prefix_rule else None,
    )


class _Run(msgspec.Struct, frozen=True):
    """One command with its time limit."""

    sessions: ExecSessions
    permits: Permits
    command: ShellCommand
    timeout_ms: float | None

    async def to_end(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Run it to its end or its limit."""
        typed = patch_in_script(self.command.script)
        if typed is not None:
            folder = os.path.join(self.command.cwd, typed.folder or ".")
            return await apply_patch(typed.patch, call.call_id, folder, context, self.permits)
        session = await open_session(self.sessions, self.command, call, context, self.permits)
        if isinstance(session, ToolOutput):
            return session
        started = context.clock.monotonic()
        limit_ms = DEFAULT_TIMEOUT_MS if self.timeout_ms is None else max(1.0, self.timeout_ms)
        await wait_or_stop(self.sessions, session, limit_ms / 1000)
        timed_out = not session.ended.is_set()
        if timed_out:
            await session.stop(exit_code=TIMEOUT_EXIT_CODE)
        self.sessions.forget(session)
        seconds = context.clock.monotonic() - started
        output = session.take_output().for_model(MAX_OUTPUT_TOKENS)
        if timed_out:
            output = f"command timed out after {round(seconds * 1000)} milliseconds\n{output}"
        text = f"Exit code: {session.exit_code}\nWall time: {seconds:.1f} seconds\nOutput:\n"
        return ToolOutput(
            text=text + output, success=session.exit_code == 0, notes=session.launch.notes
        )
