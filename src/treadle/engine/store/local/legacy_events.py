"""Display events of older rollouts: read as items, and written beside items for older readers.

Files of 0.129.0 and before have no `item_completed` lines; what a person saw is in events such as
`user_message` and `agent_message`. Owns that vocabulary; which turn they belong to is the codec's.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from treadle.domain.items import (
    AgentMessage,
    ContextCompaction,
    EnteredReviewMode,
    ExitedReviewMode,
    FileChange,
    ImageInput,
    ImageView,
    LocalImageInput,
    McpToolCall,
    Reasoning,
    StoredItem,
    TextInput,
    UserInput,
    UserMessage,
    WebSearch,
)
from treadle.engine.store.local.file_items import (
    action_respelt,
    changes_from_file,
    changes_to_file,
    command_from_file,
    duration_from_file,
    duration_to_file,
    path_of,
)
from treadle.engine.store.local.names import camel, rename_keys, snake

Json = dict[str, Any]


def event_to_item(event: Json, fresh_id: str) -> StoredItem | None:
    """The item that an older display event stands for, or None.

    Args:
        event: the payload of an `event_msg` line.
        fresh_id: the id to use where the event names none.
    """
    read = _READERS.get(str(event.get("type", "")))
    if read is None:
        return None
    return read(event, str(event.get("call_id") or fresh_id))


def item_to_events(item: StoredItem, turn_id: str) -> list[Json]:
    """The display events that readers of the older form look for.

    None for kinds that they do not show, such as commands, however their events are written.
    """
    write = _WRITERS.get(cast("type[Any]", type(item)))
    return write(item, turn_id) if write is not None else []


def _user(event: Json, item_id: str) -> UserMessage:
    content: list[UserInput] = []
    text = str(event.get("message") or "")
    if text:
        elements = rename_keys(event.get("text_elements") or [], camel)
        content.append(TextInput(text=text, text_elements=cast("list[Any]", elements)))
    content += [ImageInput(url=str(url)) for url in _texts(event.get("images"))]
    content += [LocalImageInput(path=str(path)) for path in _texts(event.get("local_images"))]
    return UserMessage(id=item_id, content=content)


def _texts(value: Any) -> list[Any]:
    return cast("list[Any]", value or [])


def _agent(event: Json, item_id: str) -> AgentMessage:
    return AgentMessage(id=item_id, text=str(event.get("message") or ""), phase=event.get("phase"))


def _patch(event: Json, item_id: str) -> FileChange:
    status = event.get("status") or ("completed" if event.get("success") else "failed")
    changes = changes_from_file(event.get("changes"))
    return FileChange(id=item_id, changes=changes, status=camel(str(status)))


def _mcp(event: Json, item_id: str) -> McpToolCall:
    call = cast("Json", event.get("invocation") or {})
    outcome = cast("Json", event.get("result") or {})
    error = outcome.get("Err")
    return McpToolCall(
        id=item_id,
        server=str(call.get("server", "")),
        tool=str(call.get("tool", "")),
        status="completed" if error is None else "failed",
        arguments=call.get("arguments"),
        result=outcome.get("Ok"),
        error=None if error is None else {"message": error},
        duration_ms=duration_from_file(event.get("duration")),
    )


def _search(event: Json, item_id: str) -> WebSearch:
    action = action_respelt(event.get("action"), camel)
    return WebSearch(id=item_id, query=str(event.get("query") or ""), action=action)


def _exited(event: Json, item_id: str) -> ExitedReviewMode:
    output = event.get("review_output")
    text = cast("Json", output).get("overall_explanation") if isinstance(output, dict) else output
    return ExitedReviewMode(id=item_id, review=str(text or ""))


_READERS: dict[str, Callable[[Json, str], StoredItem]] = {
    "user_message": _user,
    "agent_message": _agent,
    "agent_reasoning": lambda event, item_id: Reasoning(id=item_id, summary=[str(event["text"])]),
    "patch_apply_end": _patch,
    "exec_command_end": command_from_file,
    "mcp_tool_call_end": _mcp,
    "web_search_end": _search,
    "view_image_tool_call": lambda event, item_id: ImageView(
        id=item_id, path=path_of(str(event.get("path", "")))
    ),
    "entered_review_mode": lambda event, item_id: EnteredReviewMode(
        id=item_id, review=str(event.get("user_facing_hint") or "")
    ),
    "exited_review_mode": _exited,
    "context_compacted": lambda _event, item_id: ContextCompaction(id=item_id),
}


def _user_events(item: UserMessage, _turn_id: str) -> list[Json]:
    texts = [part for part in item.content if isinstance(part, TextInput)]
    elements: list[Any] = []
    for part in texts:
        elements += cast("list[Any]", rename_keys(msgspec.to_builtins(part.text_elements), snake))
    event: Json = {"type": "user_message", "message": "".join(part.text for part in texts)}
    event["images"] = [part.url for part in item.content if isinstance(part, ImageInput)]
    event["local_images"] = [
        part.path for part in item.content if isinstance(part, LocalImageInput)
    ]
    return [{**event, "text_elements": elements}]


def _agent_events(item: AgentMessage, _turn_id: str) -> list[Json]:
    event = {"type": "agent_message", "message": item.text, "phase": item.phase}
    return [{**event, "memory_citation": None}]


def _reasoning_events(item: Reasoning, _turn_id: str) -> list[Json]:
    return [{"type": "agent_reasoning", "text": text} for text in item.summary]


def _patch_events(item: FileChange, turn_id: str) -> list[Json]:
    done = item.status == "completed"
    event: Json = {"type": "patch_apply_end", "call_id": item.id, "turn_id": turn_id}
    event |= {"stdout": "", "stderr": "", "success": done, "status": snake(item.status)}
    return [{**event, "changes": changes_to_file(item.changes)}]


def _mcp_events(item: McpToolCall, _turn_id: str) -> list[Json]:
    call = {"server": item.server, "tool": item.tool, "arguments": item.arguments}
    raw: Any = item.error
    error = cast("Json", raw if isinstance(raw, dict) else {"message": raw})
    failed = item.error is not None or item.result is None
    outcome: Json = {"Err": str(error.get("message") or "")} if failed else {"Ok": item.result}
    event: Json = {"type": "mcp_tool_call_end", "call_id": item.id, "invocation": call}
    return [{**event, "duration": duration_to_file(item.duration_ms or 0), "result": outcome}]


_WRITERS: dict[type[Any], Callable[[Any, str], list[Json]]] = {
    UserMessage: _user_events,
    AgentMessage: _agent_events,
    Reasoning: _reasoning_events,
    FileChange: _patch_events,
    McpToolCall: _mcp_events,
}
