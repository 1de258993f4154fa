"""A working folder's project: its root, whether it is trusted, its `.codex` layers.

Reads through a `Reading` that `load` hands in; decides nothing about values.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from treadle.config.errors import ConfigError
from treadle.config.files import Reading
from treadle.config.layers import Layer, make_layer
from treadle.config.settings import TrustLevel
from treadle.config.toml_text import parse_toml

_FOLDER = ".codex"


def find_root(reading: Reading, cwd: Path, markers: Sequence[str] = (".git",)) -> Path | None:
    """The nearest folder from `cwd` upwards that holds one of the markers."""
    for folder in (cwd, *cwd.parents):
        if any(reading.exists(folder / marker) for marker in markers):
            return folder
    return None


def folder_chain(cwd: Path, root: Path | None) -> list[Path]:
    """The folders from `cwd` up to the project's root; `cwd` alone when there is no root."""
    if root is None:
        return [cwd]
    return [folder for folder in (cwd, *cwd.parents) if folder.is_relative_to(root)]


def trust_of(
    projects: object, cwd: Path, root: Path | None, git_root: Path | None
) -> TrustLevel | None:
    """What the user says of the folder, its project or its repository, in this order."""
    if not isinstance(projects, Mapping):
        return None
    table = cast("Mapping[str, Any]", projects)
    for folder in (cwd, root, git_root):
        for name in (str(folder), str(folder.resolve())) if folder else ():
            entry: Any = table.get(name)
            level = (
                cast("Mapping[str, Any]", entry).get("trust_level")
                if isinstance(entry, Mapping)
                else None
            )
            if level in ("trusted", "untrusted"):
                return level
    return None


def project_layers(
    reading: Reading, folders: Sequence[Path], home: Path, trust: TrustLevel | None
) -> list[Layer]:
    """The layers of the folders' `.codex`, nearest first; disabled unless trusted.

    Raises:
        ConfigError: a trusted project's file is no TOML.
    """
    layers: list[Layer] = []
    for folder in folders:
        dot = folder / _FOLDER
        if dot == home or not reading.is_folder(dot):
            continue
        path = dot / "config.toml"
        text = reading.text(path) or ""
        try:
            table = parse_toml(text, str(path))
        except ConfigError:
            if trust == "trusted":
                raise
            table = {}
        layers.append(
            make_layer(
                {"type": "project", "dotCodexFolder": str(dot)},
                table,
                text=text,
                path=str(path),
                disabled_reason=_reason(folders[-1], home, trust),
            )
        )
    return layers


def _reason(root: Path, home: Path, trust: TrustLevel | None) -> str | None:
    file = home / "config.toml"
    if trust == "trusted":
        return None
    what = "project-local config, hooks, and exec policies"
    if trust == "untrusted":
        return f"{root} is marked as untrusted in {file}. To load {what}, mark it trusted."
    return f"To load {what}, add {root} as a trusted project in {file}."
