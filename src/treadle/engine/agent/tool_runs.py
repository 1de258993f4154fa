"""Runs the tool calls of one response side by side, and records their outputs in call order.

A call starts the moment the model has made it. Outputs go back in the order of the calls, whatever
order they finish in. Cancelling stops every tool; each is given time to stop its processes and
complete its item.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from treadle.engine.agent import prompt
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput, Tools
from treadle.kit.tasks import TaskScope

logger = logging.getLogger(__name__)

Record = Callable[[ToolCall, dict[str, Any]], None]

STOP_SECONDS = 4.0
"""Time for tools to stop on an interrupt: an interrupt is settled within five seconds."""


def tool_call(item: dict[str, Any]) -> ToolCall | None:
    """The call in an output item; None when the item is none that we carry out."""
    match item.get("type"):
        case "function_call":
            return ToolCall(
                name=str(item.get("name", "")),
                call_id=str(item.get("call_id", "")),
                arguments=str(item.get("arguments") or ""),
                namespace=item.get("namespace"),
            )
        case "custom_tool_call":
            return ToolCall(
                name=str(item.get("name", "")),
                call_id=str(item.get("call_id", "")),
                arguments=str(item.get("input") or ""),
                custom=True,
            )
        case "local_shell_call":
            return _local_shell(item)
        case _:
            return None


def _local_shell(item: dict[str, Any]) -> ToolCall | None:
    """A call of the provider's own shell tool, as one of ours."""
    action: dict[str, Any] = item.get("action") or {}
    call_id = item.get("call_id") or item.get("id")
    if action.get("type") != "exec" or not call_id:
        return None
    arguments: dict[str, Any] = {
        "command": action.get("command") or [],
        "workdir": action.get("working_directory"),
        "timeout_ms": action.get("timeout_ms"),
    }
    return ToolCall(
        name="shell", call_id=str(call_id), arguments=msgspec.json.encode(arguments).decode()
    )


def output_item(call: ToolCall, output: ToolOutput) -> dict[str, Any]:
    """A tool's output as the model gets it."""
    kind = "custom_tool_call_output" if call.custom else "function_call_output"
    return {
        "type": kind,
        "call_id": call.call_id,
        "output": output.text if output.content is None else output.content,
    }


class ToolRuns:
    """The calls of one response."""

    def __init__(self, tools: Tools, context: ToolContext) -> None:
        self._tools = tools
        self._context = context
        self._scope = TaskScope(f"tools of {context.turn_id}", on_failure=_seen)
        self._runs: list[tuple[ToolCall, asyncio.Task[ToolOutput]]] = []

    def __len__(self) -> int:
        """How many calls were made and not collected."""
        return len(self._runs)

    def start(self, call: ToolCall) -> None:
        """Begin a call."""
        task = self._scope.start(self._tools.run(call, self._context), call.name or "tool")
        self._runs.append((call, task))

    async def collect(self, record: Record) -> None:
        """Wait for all outputs; `record` gets them in call order as early as order allows."""
        while self._runs:
            call, task = self._runs[0]
            await asyncio.wait({task})
            self._runs.pop(0)
            _record(call, _result(call, task), record)

    async def stop(self, record: Record, reason: str) -> None:
        """Stop what still runs; finished calls keep their output, the others get `reason`."""
        finished = {call.call_id for call, task in self._runs if task.done()}
        await self._scope.close(STOP_SECONDS)
        for call, task in self._runs:
            output = _result(call, task) if call.call_id in finished else ToolOutput(text=reason)
            _record(call, output, record)
        self._runs.clear()


def _record(call: ToolCall, output: ToolOutput, record: Record) -> None:
    record(call, output_item(call, output))
    for note in output.notes:
        record(call, prompt.message("developer", note))


def _result(call: ToolCall, task: asyncio.Task[ToolOutput]) -> ToolOutput:
    """What a finished task came to; a tool that broke tells the model so."""
    if task.cancelled():
        return ToolOutput(text="aborted", success=False)
    error = task.exception()
    if error is None:
        return task.result()
    logger.error("tool %s failed", call.name, exc_info=error)
    return ToolOutput(text=f"{call.name} failed: an internal error of the tool", success=False)


def _seen(_name: str, _error: BaseException) -> None:
    """Failures are turned into outputs when they are collected."""
