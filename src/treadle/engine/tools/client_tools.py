"""Tools that a client declares and carries out itself (`dynamicTools`).

Checks a declaration, describes it to the model, and turns each call into a question to the client.
A client's tool stands in for a built-in one of the same name: it was declared on purpose.
"""

import asyncio
import re
from typing import Any, cast

import msgspec

from treadle.domain.items import DynamicToolCall
from treadle.domain.questions import ToolAnswer, ToolQuestion, ToolText
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.tool import NotAnswered, ToolCall, ToolContext, ToolOutput, Tools

Json = dict[str, Any]

INVALID = "dynamic tool response was invalid"
_NAME_PATTERN = "^[a-zA-Z0-9_-]+$"
_MAX_TOOL_CHARS, _MAX_NAMESPACE_CHARS, _MAX_DESCRIPTION_CHARS = 128, 64, 1024
_TAKEN_NAMESPACES = frozenset({"functions", "multi_tool_use", "file_search", "web", "python"})


class BadDeclaration(Exception):
    """A declaration cannot be used; the text is for the client."""


# ---------------------------------------------------------------------- declarations


def check_declarations(declared: list[Json]) -> None:
    """Check what a client declares; texts are those of reference 0.169.0.

    Raises:
        BadDeclaration: a name, a schema or the shape cannot be used.
    """
    names: set[tuple[str | None, str]] = set()
    spaces: set[str] = set()
    for entry in declared:
        kind = entry.get("type", "function")
        if kind == "namespace":
            _check_namespace(entry, spaces, names)
        elif kind == "function":
            space = entry.get("namespace")
            if space is not None:
                _check_name(_text(entry, "namespace"), "namespace", _MAX_NAMESPACE_CHARS)
            elif entry.get("deferLoading"):
                name = entry.get("name")
                raise BadDeclaration(f"deferred dynamic tool must include a namespace: {name}")
            _check_function(entry, space, names)
        else:
            raise BadDeclaration(
                f"Invalid request: unknown variant `{kind}`, expected `function` or `namespace`"
            )


def _check_namespace(entry: Json, spaces: set[str], names: set[tuple[str | None, str]]) -> None:
    name = _text(entry, "name")
    _check_name(name, "namespace", _MAX_NAMESPACE_CHARS)
    if name in _TAKEN_NAMESPACES:
        raise BadDeclaration(
            f"dynamic tool namespace collides with a reserved Responses API namespace: {name}"
        )
    if len(_text(entry, "description")) > _MAX_DESCRIPTION_CHARS:
        raise BadDeclaration(
            f"dynamic tool namespace description must be at most {_MAX_DESCRIPTION_CHARS} "
            "characters"
        )
    if name in spaces:
        raise BadDeclaration(f"duplicate dynamic tool namespace: {name}")
    spaces.add(name)
    tools = entry.get("tools")
    if not isinstance(tools, list) or not tools:
        raise BadDeclaration(f"dynamic tool namespace must contain at least one tool: {name}")
    for tool in cast("list[Any]", tools):
        if not isinstance(tool, dict):
            raise BadDeclaration("Invalid request: a tool of a namespace must be an object")
        declared = cast("Json", tool)
        if declared.get("type", "function") != "function":
            raise BadDeclaration(
                f"Invalid request: unknown variant `{declared['type']}`, expected `function`"
            )
        _check_function(declared, name, names)


def _check_function(entry: Json, space: str | None, names: set[tuple[str | None, str]]) -> None:
    name = _text(entry, "name")
    _check_name(name, "name", _MAX_TOOL_CHARS)
    _text(entry, "description")
    if (space, name) in names:
        where = f" in namespace {space}" if space else ""
        raise BadDeclaration(f"duplicate dynamic tool name{where}: {name}")
    names.add((space, name))
    if "inputSchema" not in entry:
        raise BadDeclaration("Invalid request: missing field `inputSchema`")
    schema: Any = entry["inputSchema"]
    problem = None
    if not isinstance(schema, dict):
        problem = f"invalid type: {_json_kind(schema)}, expected struct JsonSchema"
    elif not isinstance(cast("Json", schema).get("properties", {}), dict):
        problem = f"invalid type: {_json_kind(schema['properties'])}, expected a map"
    if problem:
        raise BadDeclaration(f"dynamic tool input schema is not supported for {name}: {problem}")


def _json_kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return f'string "{value}"'
        case int() | float():
            return "number"
        case _:
            return "sequence"


def _text(entry: Json, member: str) -> str:
    value = entry.get(member)
    if not isinstance(value, str):
        raise BadDeclaration(f"Invalid request: missing field `{member}`")
    return value


def _check_name(name: str, what: str, max_chars: int) -> None:
    shown = f"dynamic tool {what}"
    if not name.strip():
        raise BadDeclaration(f"{shown} must not be empty")
    if name != name.strip():
        raise BadDeclaration(f"{shown} has leading/trailing whitespace: {name}")
    if not re.fullmatch("[a-zA-Z0-9_-]+", name):
        raise BadDeclaration(f"{shown} must match {_NAME_PATTERN} to match Responses API: {name}")
    if len(name) > max_chars:
        raise BadDeclaration(
            f"{shown} must be at most {max_chars} characters to match Responses API: {name}"
        )
    if name == "mcp" or name.startswith("mcp__"):
        raise BadDeclaration(f"{shown} is reserved: {name}")


# ---------------------------------------------------------------------- calls


class ClientTools:
    """A thread's tools with those of its client."""

    def __init__(self, tools: Tools, declared: list[Json]) -> None:
        """Put `declared`, which was checked, before `tools`."""
        self._tools = tools
        self._specs: list[Json] = []
        self._known: set[tuple[str | None, str]] = set()
        spaces: dict[str, Json] = {}
        for entry in declared:
            if entry.get("type") == "namespace":
                space = _space(spaces, entry["name"], entry["description"], self._specs)
                for tool in entry["tools"]:
                    self._add(tool, entry["name"], space["tools"])
            elif (name := entry.get("namespace")) is not None:
                self._add(entry, name, _space(spaces, name, "", self._specs)["tools"])
            else:
                self._add(entry, None, self._specs)

    def _add(self, entry: Json, namespace: str | None, specs: list[Json]) -> None:
        self._known.add((namespace, entry["name"]))
        specs.append(
            {
                "type": "function",
                "name": entry["name"],
                "description": entry["description"],
                "strict": False,
                "parameters": entry["inputSchema"],
            }
        )

    @property
    def specs(self) -> list[Json]:
        """How the model is told of all of them."""
        others = [s for s in self._tools.specs if (None, s.get("name", "")) not in self._known]
        return [*others, *self._specs]

    async def ready(self) -> None:
        """Wait for tools that are on their way."""
        await self._tools.ready()

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Put a call of a client's tool to the client; others run as ever."""
        if (call.namespace, call.name) in self._known:
            return await _ask_client(call, context)
        return await self._tools.run(call, context)


def _space(spaces: dict[str, Json], name: str, description: str, specs: list[Json]) -> Json:
    if name not in spaces:
        spaces[name] = {"type": "namespace", "name": name, "description": description, "tools": []}
        specs.append(spaces[name])
    return spaces[name]


async def _ask_client(call: ToolCall, context: ToolContext) -> ToolOutput:
    try:
        arguments = read_arguments(call.arguments, cast("type[Any]", Any))
    except BadArguments as error:
        return ToolOutput(text=str(error), success=False)
    item = DynamicToolCall(
        id=call.call_id, namespace=call.namespace, tool=call.name, arguments=arguments
    )
    context.reporter.started(item)
    started = context.clock.monotonic()
    question = ToolQuestion(
        thread_id=context.thread_id,
        turn_id=context.turn_id,
        item_id=call.call_id,
        asked_at_ms=int(context.clock.now() * 1000),
        namespace=call.namespace,
        tool=call.name,
        arguments=arguments,
    )
    answer = ToolAnswer(content_items=[ToolText(text=INVALID)], success=False)
    try:
        given = await context.asker.ask(question)
        assert isinstance(given, ToolAnswer)
        answer = given
    except NotAnswered as error:
        if error.expired:
            text = f"the tool was not carried out: {error}"
            answer = ToolAnswer(content_items=[ToolText(text=text)], success=False)
    except asyncio.CancelledError:
        context.reporter.completed(msgspec.structs.replace(item, status="failed", success=False))
        raise
    context.reporter.completed(
        msgspec.structs.replace(
            item,
            status="completed" if answer.success else "failed",
            content_items=msgspec.to_builtins(answer.content_items),
            success=answer.success,
            duration_ms=round((context.clock.monotonic() - started) * 1000),
        )
    )
    return _output(answer)


def _output(answer: ToolAnswer) -> ToolOutput:
    """One text goes to the model as it is, anything else as parts."""
    items = answer.content_items
    if not items:
        return ToolOutput(text="", success=answer.success)
    if len(items) == 1 and isinstance(items[0], ToolText):
        return ToolOutput(text=items[0].text, success=answer.success)
    parts: list[Json] = [
        {"type": "input_text", "text": part.text}
        if isinstance(part, ToolText)
        else {"type": "input_image", "image_url": part.image_url}
        for part in items
    ]
    return ToolOutput(content=parts, success=answer.success)
