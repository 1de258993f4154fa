"""The classic command tools `shell` and `shell_command`: run, wait for the end, answer.

Not offered, but answered when a model calls them from habit. The same commands underneath as
`exec_command`; what runs past its time limit is ended with its tree.
"""

import os
import re
import shlex
from dataclasses import replace
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
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.tool_specs import SHELL, SHELL_COMMAND

DEFAULT_TIMEOUT_MS = 10_000
TIMEOUT_EXIT_CODE = 124
"""As timeout(1) and the references have it."""


class _ShellArguments(msgspec.Struct):
    command: list[str]
    workdir: str | None = None
    timeout_ms: float | None = None


class _ScriptArguments(msgspec.Struct):
    command: str
    workdir: str | None = None
    login: bool = True
    timeout_ms: float | None = None


class Shell:
    """Runs a program with arguments."""

    name = "shell"

    def __init__(self, sessions: ExecSessions) -> None:
        """Run commands in `sessions`, so that they are bounded and stopped with the others."""
        self._sessions = sessions

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
        cwd = absolute_path(wanted.workdir, context)
        command = ShellCommand(tuple(wanted.command), _script(wanted.command), cwd)
        return await _run(self._sessions, command, wanted.timeout_ms, call, context)


class ShellScript:
    """Runs a script in the user's shell."""

    name = "shell_command"

    def __init__(self, sessions: ExecSessions, shell: str = "/bin/bash") -> None:
        """Run commands in `sessions` with `shell`."""
        self._sessions = sessions
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
        command = ShellCommand(argv, wanted.command, absolute_path(wanted.workdir, context))
        return await _run(self._sessions, command, wanted.timeout_ms, call, context)


def _script(command: list[str]) -> str:
    """The script inside `bash -lc <script>`, or the command as one."""
    shells = re.fullmatch(r"(?:.*/)?(?:bash|zsh|sh)", command[0])
    if len(command) == 3 and shells and command[1] in ("-c", "-lc"):
        return command[2]
    return shlex.join(command)


async def _run(
    sessions: ExecSessions,
    command: ShellCommand,
    timeout_ms: float | None,
    call: ToolCall,
    context: ToolContext,
) -> ToolOutput:
    typed = patch_in_script(command.script)
    if typed is not None:
        folder = os.path.join(command.cwd, typed.folder or ".")
        return await apply_patch(typed.patch, call.call_id, folder, context)
    started = context.clock.monotonic()
    session = await open_session(sessions, replace(command, source="agent"), call, context)
    if isinstance(session, ToolOutput):
        return session
    limit_ms = DEFAULT_TIMEOUT_MS if timeout_ms is None else max(1.0, timeout_ms)
    await wait_or_stop(sessions, session, limit_ms / 1000)
    timed_out = not session.ended.is_set()
    if timed_out:
        await session.stop(exit_code=TIMEOUT_EXIT_CODE)
    sessions.forget(session)
    seconds = context.clock.monotonic() - started
    output = session.take_output().for_model(MAX_OUTPUT_TOKENS)
    if timed_out:
        output = f"command timed out after {round(seconds * 1000)} milliseconds\n{output}"
    return ToolOutput(
        text=f"Exit code: {session.exit_code}\nWall time: {seconds:.1f} seconds\nOutput:\n{output}",
        success=session.exit_code == 0,
    )
