"""Items as rollout files spell them, and back.

Covers every item of the protocol that Treadle makes; others keep their members under the
protocol's spelling and go back as they came. Decides nothing about turns or order.
"""

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote, unquote

import msgspec

from treadle.domain.items import (
    AgentMessage,
    CommandExecution,
    DynamicToolCall,
    EnteredReviewMode,
    ExitedReviewMode,
    FileChange,
    FileUpdate,
    ImageInput,
    ImageView,
    McpToolCall,
    Reasoning,
    StoredItem,
    TextInput,
    ThreadItem,
    UserInput,
    UserMessage,
    WebSearch,
)
from treadle.engine.store.local.names import camel, pascal, rename_keys, snake

Json = dict[str, Any]
_TIMES = ("started_at_ms", "completed_at_ms")
"""Members that are not written with an item: files have them beside it."""
_wire_items: msgspec.json.Decoder[ThreadItem] = msgspec.json.Decoder(ThreadItem)
_wire_inputs: msgspec.json.Decoder[UserInput] = msgspec.json.Decoder(UserInput)


def item_to_file(item: StoredItem) -> Json:
    """The object that `item_completed` carries for an item."""
    spell = _TO_FILE.get(cast("type[Any]", type(item)))
    if spell is not None:
        return spell(item)
    entries = cast("Json", rename_keys(msgspec.to_builtins(item), snake))
    for name in _TIMES:
        entries.pop(name, None)
    return {**entries, "type": pascal(str(entries.get("type", "unknown")))}


def item_from_file(entry: Json) -> StoredItem:
    """The item in an `item_completed` object; the raw object for types Treadle does not make."""
    kind = str(entry.get("type", ""))
    read = _FROM_FILE.get(kind)
    try:
        if read is not None:
            return read(entry)
        wire = {**rename_keys(entry, camel), "type": camel(kind)}
        return _wire_items.decode(msgspec.json.encode(wire))
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError):
        return {**rename_keys(entry, camel), "type": camel(kind)}


def duration_to_file(duration_ms: int | None) -> Json | None:
    """Milliseconds as `{secs, nanos}`."""
    if duration_ms is None:
        return None
    return {"secs": duration_ms // 1000, "nanos": duration_ms % 1000 * 1_000_000}


def duration_from_file(entry: Any) -> int | None:
    """Milliseconds of `{secs, nanos}`; None when it is none."""
    if not isinstance(entry, dict):
        return None
    parts = cast("Json", entry)
    return int(parts.get("secs", 0)) * 1000 + int(parts.get("nanos", 0)) // 1_000_000


def words_of(command: str) -> list[str]:
    """The command line as words; one word when it cannot be taken apart and joined again."""
    import shlex

    try:
        words = shlex.split(command)
    except ValueError:
        return [command]
    return words if words and shlex.join(words) == command else [command]


def line_of(words: Any) -> str:
    """The command line of words as a file has them."""
    if isinstance(words, str):
        return words
    parts = [str(word) for word in cast("list[Any]", words or [])]
    if len(parts) == 1:
        return parts[0]
    import shlex

    return shlex.join(parts)


def path_of(text: str) -> str:
    """A path that may be written as a `file://` URL."""
    return unquote(text[7:]) if text.startswith("file://") else text


def input_to_file(part: UserInput) -> Json:
    """One input of a user message."""
    if isinstance(part, TextInput):
        elements = [
            rename_keys(element, snake) for element in msgspec.to_builtins(part.text_elements)
        ]
        return {"type": "text", "text": part.text, "text_elements": elements}
    wire = cast("Json", rename_keys(msgspec.to_builtins(part), snake))
    if isinstance(part, ImageInput):
        wire["image_url"] = wire.pop("url")
    return {**wire, "type": snake(str(wire["type"]))}


def input_from_file(entry: Json) -> UserInput:
    """One input of a user message in a file; raises msgspec.ValidationError when unknown."""
    if entry.get("type") == "text":
        elements = rename_keys(entry.get("text_elements") or [], camel)
        return TextInput(text=str(entry.get("text", "")), text_elements=cast("list[Any]", elements))
    wire = cast("Json", rename_keys(entry, camel))
    if "imageUrl" in wire:
        wire["url"] = wire.pop("imageUrl")
    wire["type"] = camel(str(wire.get("type", "")))
    return _wire_inputs.decode(msgspec.json.encode(wire))


def changes_to_file(changes: list[FileUpdate]) -> Json:
    """File updates as a map from path to change."""
    return {change.path: _change_to_file(change) for change in changes}


def changes_from_file(changes: Any) -> list[FileUpdate]:
    """File updates of a map from path to change."""
    found: list[FileUpdate] = []
    for path, change in cast("dict[str, Json]", changes or {}).items():
        kind = str(change.get("type", "update"))
        if kind == "update":
            moved = {"type": "update", "move_path": change.get("move_path")}
            found.append(
                FileUpdate(path=path, kind=moved, diff=str(change.get("unified_diff", "")))
            )
        else:
            found.append(
                FileUpdate(path=path, kind={"type": kind}, diff=str(change.get("content", "")))
            )
    return found


def actions_to_file(actions: list[Json]) -> list[Json]:
    """What a command does, as files call it."""
    found: list[Json] = []
    for action in actions:
        entry = {"cmd" if key == "command" else key: value for key, value in action.items()}
        found.append({**entry, "type": snake(str(entry.get("type", "unknown")))})
    return found


def actions_from_file(actions: Any) -> list[Json]:
    """What a command does, as the protocol calls it."""
    found: list[Json] = []
    for action in cast("list[Json]", actions or []):
        entry = {"command" if key == "cmd" else key: value for key, value in action.items()}
        found.append({**entry, "type": camel(str(entry.get("type", "unknown")))})
    return found


def _command_to_file(item: CommandExecution) -> Json:
    return {
        "type": "CommandExecution",
        "id": item.id,
        "process_id": item.process_id,
        "command": words_of(item.command),
        "cwd": "file://" + quote(item.cwd),
        "parsed_cmd": actions_to_file(item.command_actions),
        "source": snake(item.source),
        "status": snake(item.status),
        "aggregated_output": item.aggregated_output,
        "exit_code": item.exit_code,
        "duration": duration_to_file(item.duration_ms),
    }


def command_from_file(entry: Json, item_id: str) -> CommandExecution:
    """The command in an `item_completed` object or in an older end event."""
    return CommandExecution(
        id=item_id,
        command=line_of(entry.get("command")),
        cwd=path_of(str(entry.get("cwd", ""))),
        process_id=entry.get("process_id"),
        source=camel(str(entry.get("source") or "agent")),
        status=camel(str(entry.get("status") or "completed")),
        command_actions=actions_from_file(entry.get("parsed_cmd")),
        aggregated_output=entry.get("aggregated_output"),
        exit_code=entry.get("exit_code"),
        duration_ms=duration_from_file(entry.get("duration")),
    )


def _change_to_file(change: FileUpdate) -> Json:
    kind = str(change.kind.get("type", "update"))
    if kind == "update":
        moved = change.kind.get("move_path", change.kind.get("movePath"))
        return {"type": "update", "unified_diff": change.diff, "move_path": moved}
    return {"type": kind, "content": change.diff}


def _user_to_file(item: UserMessage) -> Json:
    entry: Json = {"type": "UserMessage", "id": item.id}
    if item.client_id is not None:
        entry["client_id"] = item.client_id
    return {**entry, "content": [input_to_file(part) for part in item.content]}


def _user_from_file(entry: Json) -> UserMessage:
    parts = [input_from_file(part) for part in _objects(entry.get("content"))]
    return UserMessage(id=str(entry["id"]), client_id=entry.get("client_id"), content=parts)


def _objects(value: Any) -> list[Json]:
    return cast("list[Json]", value or [])


def _agent_to_file(item: AgentMessage) -> Json:
    content = [{"type": "Text", "text": item.text}]
    entry: Json = {"type": "AgentMessage", "id": item.id, "content": content}
    if item.phase is not None:
        entry["phase"] = item.phase
    return entry


def _agent_from_file(entry: Json) -> AgentMessage:
    text = "".join(str(part.get("text", "")) for part in _objects(entry.get("content")))
    return AgentMessage(
        id=str(entry["id"]),
        text=text,
        phase=entry.get("phase"),
        memory_citation=rename_keys(entry.get("memory_citation"), camel),
    )


def _reasoning_to_file(item: Reasoning) -> Json:
    parts = {"summary_text": item.summary, "raw_content": item.content}
    return {"type": "Reasoning", "id": item.id, **parts}


def _reasoning_from_file(entry: Json) -> Reasoning:
    return Reasoning(
        id=str(entry["id"]),
        summary=list(entry.get("summary_text") or []),
        content=list(entry.get("raw_content") or []),
    )


def _change_item_to_file(item: FileChange) -> Json:
    return {
        "type": "FileChange",
        "id": item.id,
        "changes": changes_to_file(item.changes),
        "status": snake(item.status),
        "stdout": "",
        "stderr": "",
    }


def _change_item_from_file(entry: Json) -> FileChange:
    return FileChange(
        id=str(entry["id"]),
        changes=changes_from_file(entry.get("changes")),
        status=camel(str(entry.get("status") or "completed")),
    )


def _mcp_to_file(item: McpToolCall) -> Json:
    entry: Json = {"type": "McpToolCall", "id": item.id, "server": item.server, "tool": item.tool}
    entry |= {"arguments": item.arguments, "status": snake(item.status)}
    if item.result is not None:
        entry["result"] = item.result
    if item.error is not None:
        entry["error"] = item.error
    return {**entry, "duration": duration_to_file(item.duration_ms)}


def _mcp_from_file(entry: Json) -> McpToolCall:
    return McpToolCall(
        id=str(entry["id"]),
        server=str(entry.get("server", "")),
        tool=str(entry.get("tool", "")),
        status=camel(str(entry.get("status") or "completed")),
        arguments=entry.get("arguments"),
        result=entry.get("result"),
        error=entry.get("error"),
        duration_ms=duration_from_file(entry.get("duration")),
    )


def _dynamic_to_file(item: DynamicToolCall) -> Json:
    entry: Json = {"type": "DynamicToolCall", "id": item.id}
    if item.namespace is not None:
        entry["namespace"] = item.namespace
    return {
        **entry,
        "tool": item.tool,
        "arguments": item.arguments,
        "status": snake(item.status),
        "content_items": item.content_items,
        "success": item.success,
        "duration": duration_to_file(item.duration_ms),
    }


def _dynamic_from_file(entry: Json) -> DynamicToolCall:
    return DynamicToolCall(
        id=str(entry["id"]),
        namespace=entry.get("namespace"),
        tool=str(entry.get("tool", "")),
        arguments=entry.get("arguments"),
        status=camel(str(entry.get("status") or "completed")),
        content_items=entry.get("content_items"),
        success=entry.get("success"),
        duration_ms=duration_from_file(entry.get("duration")),
    )


def action_respelt(action: Any, spell: Callable[[str], str]) -> Any:
    """A web search's action with its type in the other spelling."""
    if not isinstance(action, dict):
        return action
    entry = cast("Json", action)
    return {**entry, "type": spell(str(entry.get("type", "other")))}


def _search_to_file(item: WebSearch) -> Json:
    action = action_respelt(item.action, snake)
    return {"type": "WebSearch", "id": item.id, "query": item.query, "action": action}


def _search_from_file(entry: Json) -> WebSearch:
    action = action_respelt(entry.get("action"), camel)
    return WebSearch(id=str(entry["id"]), query=str(entry.get("query", "")), action=action)


def _image_to_file(item: ImageView) -> Json:
    return {"type": "ImageView", "id": item.id, "path": "file://" + quote(item.path)}


def _entered_to_file(item: EnteredReviewMode) -> Json:
    target = {"type": "custom", "instructions": item.review}
    hint = {"target": target, "user_facing_hint": item.review}
    return {"type": "EnteredReviewMode", "id": item.id, **hint}


def _exited_to_file(item: ExitedReviewMode) -> Json:
    return {"type": "ExitedReviewMode", "id": item.id, "review": item.review}


_TO_FILE: dict[type[Any], Callable[[Any], Json]] = {
    UserMessage: _user_to_file,
    AgentMessage: _agent_to_file,
    Reasoning: _reasoning_to_file,
    CommandExecution: _command_to_file,
    FileChange: _change_item_to_file,
    McpToolCall: _mcp_to_file,
    DynamicToolCall: _dynamic_to_file,
    WebSearch: _search_to_file,
    ImageView: _image_to_file,
    EnteredReviewMode: _entered_to_file,
    ExitedReviewMode: _exited_to_file,
}

_FROM_FILE: dict[str, Callable[[Json], StoredItem]] = {
    "UserMessage": _user_from_file,
    "AgentMessage": _agent_from_file,
    "Reasoning": _reasoning_from_file,
    "CommandExecution": lambda entry: command_from_file(entry, str(entry["id"])),
    "FileChange": _change_item_from_file,
    "McpToolCall": _mcp_from_file,
    "DynamicToolCall": _dynamic_from_file,
    "WebSearch": _search_from_file,
    "ImageView": lambda entry: ImageView(id=str(entry["id"]), path=path_of(str(entry["path"]))),
    "EnteredReviewMode": lambda entry: EnteredReviewMode(
        id=str(entry["id"]), review=str(entry.get("user_facing_hint") or "")
    ),
    "ExitedReviewMode": lambda entry: ExitedReviewMode(
        id=str(entry["id"]), review=str(entry.get("review") or "")
    ),
}
