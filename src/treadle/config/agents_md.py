"""AGENTS.md: which files speak for a working folder, and their texts joined.

Reads files, in a fixed order, up to a size. Does not say how the text is shown to a model.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

OVERRIDE_NAME = "AGENTS.override.md"
DEFAULT_NAME = "AGENTS.md"
_SEPARATOR = "\n\n--- project-doc ---\n\n"


class AgentInstructions(msgspec.Struct, frozen=True):
    """The joined text (None when there is none) and the files it comes from, in order."""

    text: str | None
    sources: tuple[Path, ...]


def read_agents_md(
    home: Path,
    cwd: Path,
    *,
    root_markers: Sequence[str] = (".git",),
    fallback_names: Sequence[str] = (),
    max_bytes: int = 32768,
) -> AgentInstructions:
    """The user's instructions, then those of each folder from the project's root down to `cwd`.

    `max_bytes` limits the project's part in all; what is beyond is cut off at a whole character.
    Files that are empty or cannot be read are passed over.
    """
    sources: list[Path] = []
    general = ""
    if found := _first(home, (OVERRIDE_NAME, DEFAULT_NAME), None):
        sources.append(found[0])
        general = found[1]
    parts: list[str] = []
    left = max_bytes
    names = (OVERRIDE_NAME, DEFAULT_NAME, *fallback_names)
    for folder in _folders(cwd, root_markers):
        if left <= 0:
            break
        if folder != home and (found := _first(folder, names, left)):
            sources.append(found[0])
            parts.append(found[1])
            left -= len(found[1].encode())
    project = "\n\n".join(parts)
    text = _SEPARATOR.join(part for part in (general, project) if part)
    return AgentInstructions(text or None, tuple(sources))


def _folders(cwd: Path, markers: Sequence[str]) -> list[Path]:
    """From the project's root down to `cwd`; `cwd` alone outside of any project."""
    chain: list[Path] = []
    for folder in (cwd, *cwd.parents):
        chain.append(folder)
        if any((folder / marker).exists() for marker in markers):
            return chain[::-1]
    return [cwd]


def _first(folder: Path, names: Sequence[str], limit: int | None) -> tuple[Path, str] | None:
    for name in names:
        path = folder / name
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                data = file.read() if limit is None else file.read(limit)
        except OSError:
            continue
        text = data.decode(errors="ignore").strip()
        if text:
            return path, text
    return None
