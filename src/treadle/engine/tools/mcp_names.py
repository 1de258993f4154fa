"""Names under which a model sees MCP servers and their tools.

A server becomes the namespace `mcp__<server>`. What providers do not allow in a name is replaced;
names that are too long or fall together get a tail made from the original, so that a name depends
on nothing but the set it is in. Pure.
"""

import re
from collections.abc import Iterable

PREFIX = "mcp__"
MAX_NAME_CHARS = 64
"""Longest name that providers take."""

_ODD = r"[^A-Za-z0-9_-]"
_TAIL_CHARS = 8


def namespaces(servers: Iterable[str]) -> dict[str, str]:
    """The namespace of each server."""
    return _assign({server: PREFIX + _plain(server) for server in servers})


def tool_names(tools: Iterable[str]) -> dict[str, str]:
    """The name of each tool within its namespace."""
    return _assign({tool: _plain(tool) for tool in tools})


def split_flat(name: str) -> tuple[str, str] | None:
    """Namespace and tool in a name like `mcp__files__read`; None when it is no such name.

    Some models glue the two together. A namespace with `__` in it is split at its last one.
    """
    if not name.startswith(PREFIX):
        return None
    namespace, glue, tool = name.rpartition("__")
    return (namespace, tool) if glue and len(namespace) > len(PREFIX) and tool else None


def _plain(name: str) -> str:
    return re.sub(_ODD, "_", name)


def _assign(wanted: dict[str, str]) -> dict[str, str]:
    """Unique names that fit: the first to ask for a name as it stands keeps it."""
    given: dict[str, str] = {}
    taken: set[str] = set()
    # Names that nothing was changed in come first, or a mangled twin could take theirs away.
    for original in sorted(wanted, key=lambda name: (not wanted[name].endswith(name), name)):
        name = wanted[original]
        if name in taken or len(name) > MAX_NAME_CHARS:
            import hashlib

            tail = hashlib.sha256(original.encode()).hexdigest()[:_TAIL_CHARS]
            name = f"{name[: MAX_NAME_CHARS - _TAIL_CHARS - 1]}_{tail}"
        taken.add(name)
        given[original] = name
    return given
