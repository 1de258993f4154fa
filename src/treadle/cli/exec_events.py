"""The notifications of a turn as the JSON events that `codex exec --json` prints. Pure.

Shapes are those of 0.129.0 and 0.169.0, seen on both: `thread.started`, `turn.started`, `item.*`
with ids of their own that count up from `item_0`, `turn.completed` with the thread's usage so far,
`turn.failed`, `error`. Knows no client and prints nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

Event = dict[str, Any]
Item = dict[str, Any]

_STATUS = {"inProgress": "in_progress"}

_USAGE = {
    "input_tokens": "inputTokens",
    "cached_input_tokens": "cachedInputTokens",
    "cache_write_input_tokens": "cacheWriteInputTokens",
    "output_tokens": "outputTokens",
    "reasoning_output_tokens": "reasoningOutputTokens",
}


def _status(item: Item) -> str:
    status = str(item["status"])
    return _STATUS.get(status, status)


def _command(item: Item) -> Event:
    return {
        "type": "command_execution",
        "command": item["command"],
        "aggregated_output": item["aggregatedOutput"] or "",
        "exit_code": item["exitCode"],
        "status": _status(item),
    }


def _file_change(item: Item) -> Event:
    changes = [{"path": each["path"], "kind": each["kind"]["type"]} for each in item["changes"]]
    return {"type": "file_change", "changes": changes, "status": _status(item)}


def _mcp_result(result: Any) -> Any:
    if result is None:
        return None
    told: dict[str, Any] = result
    shown = {"content": told.get("content"), "structured_content": told.get("structuredContent")}
    return shown | ({"_meta": told["_meta"]} if told.get("_meta") is not None else {})


def _mcp_call(item: Item) -> Event:
    return {
        "type": "mcp_tool_call",
        "server": item["server"],
        "tool": item["tool"],
        "arguments": item["arguments"],
        "result": _mcp_result(item["result"]),
        "error": item["error"],
        "status": _status(item),
    }


def _collab_call(item: Item) -> Event:
    return {
        "type": "collab_tool_call",
        "tool": item["tool"],
        "sender_thread_id": item["senderThreadId"],
        "receiver_thread_ids": item["receiverThreadIds"],
        "prompt": item["prompt"],
        "agents_states": item["agentsStates"],
        "status": _status(item),
    }


_SHAPES: dict[str, Callable[[Item], Event]] = {
    "agentMessage": lambda item: {"type": "agent_message", "text": item["text"]},
    "reasoning": lambda item: {"type": "reasoning", "text": "\n\n".join(item["summary"])},
    "commandExecution": _command,
    "fileChange": _file_change,
    "mcpToolCall": _mcp_call,
    "collabAgentToolCall": _collab_call,
    "webSearch": lambda item: {
        "type": "web_search",
        "query": item["query"],
        "action": item["action"],
    },
}

_WHOLE = frozenset({"agentMessage", "reasoning"})
"""Kinds that are told once, when they are complete."""


class Shaper:
    """Turns the notifications of one thread into events, in order."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._count = 0
        self._plan: Event | None = None
        self._usage: dict[str, Any] = {}

    def shape(self, method: str, params: dict[str, Any]) -> Iterator[Event]:
        """The events of a notification, of which there may be none."""
        match method:
            case "turn/started":
                yield {"type": "turn.started"}
            case "item/started" | "item/completed":
                yield from self._item(params["item"], method.rpartition("/")[2])
            case "turn/plan/updated":
                yield from self._planned(params["plan"])
            case "thread/tokenUsage/updated":
                self._usage = params["tokenUsage"]["total"]
            case "warning":
                yield self._new("completed", {"type": "error", "message": params["message"]})
            case "error":
                yield {"type": "error", "message": error_text(params["error"])}
            case _:
                return

    def end(self, turn: dict[str, Any], reason: str | None = None) -> Iterator[Event]:
        """The events of a turn's end; `reason` says why it failed where the turn does not know.

        An interrupted turn without a reason has no event of its own, as in the references.
        """
        if self._plan is not None:
            yield {"type": "item.completed", "item": self._plan}
        if turn["status"] == "completed":
            usage = {name: self._usage.get(key) or 0 for name, key in _USAGE.items()}
            yield {"type": "turn.completed", "usage": usage}
            return
        error: dict[str, Any] = turn.get("error") or {}
        if text := reason or error.get("message"):
            yield {"type": "turn.failed", "error": {"message": text}}

    def _item(self, item: Item, step: str) -> Iterator[Event]:
        kind = item["type"]
        shape = _SHAPES.get(kind)
        if shape is None or (kind in _WHOLE and step == "started"):
            return
        shaped = shape(item)
        if kind == "reasoning" and not shaped["text"]:
            return
        known = self._ids.pop(item["id"], None)
        event = self._new(step, shaped) if known is None else _event(step, known, shaped)
        if step == "started":
            self._ids[item["id"]] = event["item"]["id"]
        yield event

    def _planned(self, plan: list[dict[str, Any]]) -> Iterator[Event]:
        steps = [
            {"text": step["step"], "completed": step["status"] == "completed"} for step in plan
        ]
        if self._plan is None:
            event = self._new("started", {"type": "todo_list", "items": steps})
            self._plan = event["item"]
            yield event
        else:
            self._plan = {**self._plan, "items": steps}
            yield {"type": "item.updated", "item": self._plan}

    def _new(self, step: str, shaped: Event) -> Event:
        item_id = f"item_{self._count}"
        self._count += 1
        return _event(step, item_id, shaped)


def _event(step: str, item_id: str, shaped: Event) -> Event:
    return {"type": f"item.{step}", "item": {"id": item_id, **shaped}}


def error_text(error: dict[str, Any]) -> str:
    """What is wrong in one text: the message, and the details in brackets."""
    details = error.get("additionalDetails")
    return f"{error['message']} ({details})" if details else str(error["message"])
