"""Spelling between the two vocabularies of a rollout file and of the protocol.

Rollout files say `snake_case` for members and `PascalCase` for item types; the protocol says
`camelCase`. Pure text work, shared by the codecs of this folder.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

_HUMP = r"(?<=[a-z0-9])([A-Z])"
_JOINT = r"_([a-z0-9])"


@lru_cache(maxsize=1024)
def snake(name: str) -> str:
    """`contextWindowExceeded` -> `context_window_exceeded`."""
    return re.sub(_HUMP, r"_\1", name).lower()


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """`context_window_exceeded` or `UserMessage` -> `contextWindowExceeded`, `userMessage`."""
    text = re.sub(_JOINT, lambda match: match[1].upper(), name)
    return text[:1].lower() + text[1:]


@lru_cache(maxsize=1024)
def pascal(name: str) -> str:
    """`userMessage` -> `UserMessage`."""
    return name[:1].upper() + name[1:]


def text_or_none(value: Any) -> str | None:
    """A text that a file should hold here; None when it holds something else."""
    return value if isinstance(value, str) else None


def rename_keys(value: Any, spell: Callable[[str], str]) -> Any:
    """`value` with every object's keys respelt, at any depth."""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return {spell(key): rename_keys(part, spell) for key, part in entries.items()}
    if isinstance(value, list):
        return [rename_keys(part, spell) for part in cast("list[Any]", value)]
    return value


def respell_error(info: Any, spell: Callable[[str], str]) -> Any:
    """An error's kind in the other spelling: a name, or one object `{name: details}`."""
    return spell(info) if isinstance(info, str) else rename_keys(info, spell)
