"""What matters of a model request when two runs of the same work are compared. Pure.

A portrait keeps the model, the tools offered and what the conversation gained, and takes out what
differs from run to run: ids, times, durations, workspace paths. Secrets are masked first, so that
a portrait may be written to a file. Instructions are kept by kind only: their wording belongs to
the product's version, not to the conversation.
"""

import re
from collections.abc import Callable
from typing import Any, cast

from treadle.engine.model.model_client import ModelRequest

WORKSPACE = "{{workspace}}"
"""Stands for the absolute path of the thread's working directory."""

_CWD = re.compile(r"<cwd>(.*?)</cwd>", re.DOTALL)
_OPENING_TAG = re.compile(r"\s*<([a-zA-Z_][\w ]*)>")

_SECRETS = (
    re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"),
    re.compile(r"\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"\bAIza[\w-]{30,}"),
    re.compile(r"\bxox[abeoprs]-[\w-]{10,}"),
    re.compile(r"\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}"),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
    re.compile(r"(?<=[Bb]earer )[\w.~+/=-]{8,}"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
    re.compile(
        r"(?i)(?<![a-z0-9])(?:[a-z0-9]+[_-])*(?:api[_-]?key|token|secret|password)"
        r"(?P<keep>['\"]?\s*[=:]\s*['\"]?)[^\s'\",;]{8,}"
    ),
)
_MASK = "[secret]"

_VARYING = (
    (re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+"), "<data>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"(?<=Chunk ID: )\w+"), "<id>"),
    (re.compile(r"(?<=session ID )\d+"), "<id>"),
    (re.compile(r"(?<=[Tt]oken count: )\d+"), "<n>"),
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
        ),
        "<date>",
    ),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:seconds?|secs?|ms|s|µs|us)\b"), "<duration>"),
    # Commit hashes: hexadecimal with at least one digit and one letter, so no word and no number.
    (re.compile(r"\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,40}\b"), "<hash>"),
    (re.compile(r"/(?:private/)?(?:var/)?tmp/[^\s/'\"<>:]+"), "<tmp>"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


def mask_secrets(text: str) -> str:
    """`text` with everything that looks like a credential replaced."""
    for pattern in _SECRETS:
        text = pattern.sub(_masked, text)
    return text


def normalise(text: str, workspace: str | None) -> str:
    """`text` without secrets and without what differs between two runs of the same work."""
    text = mask_secrets(text)
    if workspace:
        text = text.replace(workspace, WORKSPACE)
    for pattern, placeholder in _VARYING:
        text = pattern.sub(placeholder, text)
    return text.rstrip()


def find_workspace(request: ModelRequest) -> str | None:
    """The working directory that the request's environment context last named."""
    for item in reversed(request.input):
        for text in _texts(item.get("content")):
            found = _CWD.search(text)
            if found is not None and len(found[1]) > 1:
                return found[1]
    return None


def draw_portrait(
    request: ModelRequest, since: list[dict[str, Any]], thread: str
) -> dict[str, Any]:
    """What matters of `request`.

    Args:
        request: the request.
        since: the input of the previous request of the same thread; its common beginning with
            this one is left out.
        thread: a name for the thread that is the same in each run.
    """
    workspace = find_workspace(request)
    known = _common_length(since, request.input)
    portrait: dict[str, Any] = {
        "thread": thread,
        "kind": request.request_kind,
        "model": request.model,
        "tools": sorted(_tool_name(tool) for tool in request.tools),
        "input": [_draw_item(item, workspace) for item in request.input[known:]],
    }
    if known < len(since):
        # The history was rewritten (compaction, a revert): how much stayed matters then.
        portrait["kept"] = known
    return portrait


def change_texts(value: Any, change: Callable[[str], str]) -> Any:
    """`value` (plain JSON data) with `change` applied to every text but keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [change_texts(entry, change) for entry in cast("list[Any]", value)]
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {name: change_texts(entry, change) for name, entry in members.items()}
    return value


def _masked(found: re.Match[str]) -> str:
    """The mask; of an assignment (`token=...`) name and sign stay readable."""
    keep = found.groupdict().get("keep")
    if keep is None:
        return _MASK
    return found[0][: found.start("keep") - found.start()] + keep + _MASK


def _draw_item(item: dict[str, Any], workspace: str | None) -> dict[str, Any]:
    kind = str(item.get("type", "message"))
    if kind == "message":
        role = str(item.get("role", ""))
        texts = [_draw_text(text, role, workspace) for text in _texts(item.get("content"))]
        return {"type": kind, "role": role, "text": texts}
    if kind == "reasoning":
        return {"type": kind}
    drawn: dict[str, Any] = {"type": kind}
    for member in ("name", "arguments", "input", "output", "action", "tools", "execution"):
        if member in item:
            drawn[member] = change_texts(item[member], lambda text: normalise(text, workspace))
    return drawn


def _draw_text(text: str, role: str, workspace: str | None) -> str:
    tag = _OPENING_TAG.match(text)
    if role in ("developer", "system"):
        return f"<{tag[1]}>" if tag else "(instructions)"
    if tag is not None and tag[1] == "environment_context":
        return "<environment_context>"
    return normalise(text, workspace)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    texts: list[str] = []
    for part in cast("list[Any]", content):
        if isinstance(part, dict):
            members = cast("dict[str, Any]", part)
            text = members.get("text", members.get("image_url"))
            texts.append(text if isinstance(text, str) else f"({members.get('type')})")
    return texts


def _tool_name(tool: dict[str, Any]) -> str:
    return str(tool.get("name") or tool.get("type"))


def _common_length(earlier: list[dict[str, Any]], later: list[dict[str, Any]]) -> int:
    length = 0
    for before, now in zip(earlier, later, strict=False):
        if before != now:
            break
        length += 1
    return length
