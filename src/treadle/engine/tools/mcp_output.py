"""What a called MCP tool gave, as the model gets it. Pure.

The result is bounded here: text by a budget of characters with its middle cut, pictures by their
number. The item that people see keeps the result as it came, as long as it is not huge.
"""

from typing import Any

import msgspec

from treadle.engine.tools.mcp_link import Json
from treadle.engine.tools.tool import ToolOutput
from treadle.engine.tools.truncate import cut_text

MAX_TEXT_CHARS = 40_000
MAX_IMAGES = 8
MAX_IMAGE_CHARS = 8 << 20
MAX_ITEM_BYTES = 1 << 20
"""Largest result that an item carries whole."""


def succeeded(result: Json) -> bool:
    """Whether the tool itself reports success."""
    return not result.get("isError")


def as_output(result: Json, seconds: float) -> ToolOutput:
    """The parts of a result behind a line about the time it took (0.169.0)."""
    parts = _parts(result)
    return ToolOutput(content=[_wall_time(seconds), *parts], success=succeeded(result))


def as_failure(text: str, seconds: float) -> ToolOutput:
    """A call that gave no result."""
    told = cut_text(text, MAX_TEXT_CHARS)
    return ToolOutput(content=[_wall_time(seconds), _text(told)], success=False)


def as_text(value: Any) -> ToolOutput:
    """A JSON value as the answer of a tool of ours."""
    return ToolOutput(text=cut_text(msgspec.json.encode(value).decode(), MAX_TEXT_CHARS))


def for_item(result: Json) -> Json:
    """The result as an item carries it."""
    kept: Json = {
        "content": result.get("content") or [],
        "structuredContent": result.get("structuredContent"),
        "_meta": result.get("_meta"),
    }
    if len(msgspec.json.encode(kept)) <= MAX_ITEM_BYTES:
        return kept
    return {"content": _parts_for_people(result), "structuredContent": None, "_meta": None}


def _wall_time(seconds: float) -> Json:
    return _text(f"Wall time: {seconds:.4f} seconds\nOutput:")


def _text(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _parts(result: Json) -> list[Json]:
    blocks: list[Json] = result.get("content") or []
    if not blocks and result.get("structuredContent") is not None:
        blocks = [{"type": "text", "text": _json(result["structuredContent"])}]
    parts: list[Json] = []
    room, images = MAX_TEXT_CHARS, 0
    for block in blocks:
        if block.get("type") == "image" and images < MAX_IMAGES:
            url = f"data:{block.get('mimeType')};base64,{block.get('data')}"
            if len(url) <= MAX_IMAGE_CHARS:
                images += 1
                parts.append({"type": "input_image", "image_url": url})
                continue
        text = _told(block)
        if room <= 0:
            parts.append(_text("(the rest of the result was left out: it is too long)"))
            break
        parts.append(_text(cut_text(text, room)))
        room -= len(text)
    return parts


def _told(block: Json) -> str:
    """A block in words: texts as they are, binary data only by its kind, the rest as JSON."""
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind in ("image", "audio"):
        return f"({kind} of type {block.get('mimeType')}, left out)"
    return _json(block)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _parts_for_people(result: Json) -> list[Json]:
    blocks: list[Json] = result.get("content") or []
    text = "\n".join(_told(block) for block in blocks)
    return [{"type": "text", "text": cut_text(text, MAX_TEXT_CHARS)}]
