"""Commands that the user types themselves: run outside the sandbox, shown, and told to the model.

Owns their time limit and the words in which the model hears of them.
"""

import asyncio
from typing import Any

import msgspec

from treadle.domain.items import CommandExecution
from treadle.domain.policy import DangerFullAccess
from treadle.engine.tools.command_actions import command_actions
from treadle.engine.tools.exec import display_command
from treadle.engine.tools.exec_sessions import ExecSession, Launch
from treadle.engine.tools.tool import ToolContext
from treadle.kit.mint import new_id
from treadle.kit.processes import SpawnError
from treadle.kit.tasks import TaskScope

DEFAULT_TIMEOUT_MS = 3_600_000
TIMEOUT_EXIT_CODE = 124
MODEL_TOKENS = 10_000


class UserCommand(msgspec.Struct, frozen=True):
    """A command line of the user."""

    script: str
    shell: str
    timeout_ms: int = DEFAULT_TIMEOUT_MS


async def run_user_command(command: UserCommand, context: ToolContext) -> dict[str, Any]:
    """Run it to its end or its limit, as an item; returns what the model is told.

    A cancel ends the command with its tree and completes its item.
    """
    argv = (command.shell, "-lc", command.script)
    cwd = context.settings.cwd
    item = CommandExecution(
        id=new_id(),
        command=display_command(argv),
        cwd=cwd,
        source="userShell",
        command_actions=command_actions(command.script, cwd),
    )
    plan = context.sandbox.plan(
        argv, cwd=cwd, env=context.env, policy=DangerFullAccess(), workspace_roots=(cwd,)
    )
    launch = Launch(plan, item, context.thread_id, context.turn_id, terminal=False)
    session = ExecSession(launch, context.reporter, context.clock, number=0)
    session.item.process_id = None
    started = context.clock.monotonic()
    try:
        session.start()
    except SpawnError as error:
        context.reporter.started(item)
        reason = f"The command could not be started: {error}"
        item.status, item.exit_code = "failed", -1
        item.aggregated_output, item.duration_ms = reason, 0
        context.reporter.completed(item)
        return told(command.script, -1, 0.0, reason)
    await _to_end(session, command.timeout_ms / 1000)
    seconds = context.clock.monotonic() - started
    output = session.take_output().for_model(MODEL_TOKENS)
    return told(command.script, session.exit_code or 0, seconds, output)


async def _to_end(session: ExecSession, seconds: float) -> None:
    scope = TaskScope("user command")
    scope.start(session.watch(), "watch")
    try:
        async with asyncio.timeout(seconds):
            await session.ended.wait()
    except TimeoutError:
        await session.stop(exit_code=TIMEOUT_EXIT_CODE)
    except asyncio.CancelledError:
        await session.stop()
        raise
    finally:
        await scope.close()


def told(script: str, exit_code: int, seconds: float, output: str) -> dict[str, Any]:
    """The message in which the model hears of a command."""
    text = (
        f"<user_shell_command>\n<command>\n{script}\n</command>\n<result>\n"
        f"Exit code: {exit_code}\nDuration: {seconds:.4f} seconds\nOutput:\n{output}\n"
        "</result>\n</user_shell_command>"
    )
    return {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }
