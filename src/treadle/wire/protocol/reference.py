"""Writes the reference page of the protocol from the method table.

    python -m treadle.wire.protocol.reference > docs/protocol.md

Owns the layout of the page and no fact: names, lanes and shapes come from the table.
"""

import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from treadle.wire.protocol.method_spec import Lane, MethodSpec
from treadle.wire.protocol.methods import METHODS

Json = dict[str, Any]

_INTRODUCTION = """\
# The app-server protocol

This page is generated from the method table (`treadle/wire/protocol/methods.py`); do not edit it.
Make it anew with `python -m treadle.wire.protocol.reference > docs/protocol.md`.

Messages are JSON-RPC 2.0 without the `jsonrpc` member: one JSON object per line over stdio, one per
text message over a websocket. The first request must be `initialize`. Unknown members are
tolerated everywhere. A method with *lane* `thread:<threadId>` runs after the earlier ones of the
same thread; `shared` ones run side by side; a method without a lane waits for nothing.
"""

_NOT_OFFERED = """\
## Methods that are not offered

These are methods of the reference versions 0.129.0 and 0.169.0. They answer with error -32601,
whose text names the method.
"""


def page() -> str:
    """The whole page in Markdown."""
    offered = [spec for spec in METHODS.values() if spec.offered]
    others = sorted(spec.name for spec in METHODS.values() if not spec.offered)
    parts = [_INTRODUCTION, "## Methods\n", *_overview(offered)]
    for spec in offered:
        parts += _section(spec)
    parts += ["", _NOT_OFFERED, *(f"- `{name}`" for name in others)]
    return "\n".join(parts) + "\n"


def _overview(offered: list[MethodSpec]) -> Iterator[str]:
    yield "| method | lane | stability |"
    yield "| --- | --- | --- |"
    for spec in offered:
        stability = "experimental" if spec.experimental else "stable"
        yield f"| `{spec.name}` | {_lane(spec.lane)} | {stability} |"


def _lane(lane: Lane | None) -> str:
    if lane is None:
        return "none"
    key = lane.kind if lane.field is None else f"{lane.kind}:<{_camel(lane.field)}>"
    return f"`{key}`" + (", shared" if lane.access == "shared" else "")


def _section(spec: MethodSpec) -> Iterator[str]:
    yield f"\n### `{spec.name}`\n"
    if spec.params is None:
        yield "Takes no parameters."
    else:
        gated = {wire_name for _attribute, wire_name in spec.experimental_fields}
        optional = " (may be left out altogether)" if spec.optional_params else ""
        yield f"Parameters{optional}:\n"
        yield from _fields(spec.params, gated)
    yield "\nResult:\n"
    yield from _fields(spec.result, set())


def _fields(kind: Any, experimental: set[str]) -> Iterator[str]:
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        yield "an object."
        return
    (schema,), components = msgspec.json.schema_components([kind])
    shape: Json = components[schema["$ref"].rpartition("/")[2]]
    properties: Json = shape.get("properties", {})
    if not properties:
        yield "an empty object."
        return
    required: list[str] = shape.get("required", [])
    for name, member in properties.items():
        notes = ["required"] if name in required else []
        notes += ["experimental"] if name in experimental else []
        note = f" ({', '.join(notes)})" if notes else ""
        yield f"- `{name}`: {_type(member)}{note}"


def _type(schema: Json) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        options: list[Json] = schema["anyOf"]
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if "enum" in schema:
        values: list[Any] = schema["enum"]
        return " or ".join("null" if value is None else f'`"{value}"`' for value in values)
    kind: str = schema.get("type", "any value")
    if kind == "array":
        items: Json | bool = schema.get("items", True)
        return "array" if isinstance(items, bool) or not items else f"array of {_type(items)}"
    return kind


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


if __name__ == "__main__":
    sys.stdout.write(page())
