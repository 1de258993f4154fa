"""Hooks of a Codex home and its projects: found, told of, and never run.

Owns where hooks are written down. What they would do is nobody's business here: a server that runs
none lists none, and says of each place why.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from treadle.config.errors import ConfigError
from treadle.config.layers import Layer, section
from treadle.config.store import ConfigStore

FILE = "hooks.json"
_SETTINGS = ("state",)
"""Members of the table `hooks` that are no events."""


def hook_warnings(config: ConfigStore, cwd: str) -> list[str]:
    """A line for each place that has hooks for a working folder, or tries to.

    Raises:
        ConfigError: a file of the configuration is no TOML.
    """
    found: list[str] = []
    for layer in config.stack(cwd).layers:
        if layer.disabled_reason is not None:
            continue
        if _has_hooks(section(layer.table, "hooks")):
            found.append(_not_run(layer.label))
        for path in _files(config, layer):
            found += _of_file(config, path)
    return found


def _files(config: ConfigStore, layer: Layer) -> Iterator[Path]:
    """The file of hooks that lies beside a layer's own."""
    match layer.name:
        case {"type": "project", "dotCodexFolder": str(folder)}:
            yield Path(folder) / FILE
        case {"type": "user"} if not layer.name.get("profile"):
            yield config.home / FILE
        case _:
            pass


def _of_file(config: ConfigStore, path: Path) -> list[str]:
    try:
        text = config.read_text(path)
        if text is None:
            return []
        value: object = json.loads(text)
    except (ConfigError, ValueError) as error:
        return [f"failed to parse hooks config {path}: {error}"]
    if not isinstance(value, dict):
        return [f"failed to parse hooks config {path}: it is no object"]
    table = cast("Mapping[str, Any]", value)
    return [_not_run(str(path))] if _has_hooks(section(table, "hooks")) else []


def _has_hooks(events: Mapping[str, Any]) -> bool:
    return any(groups for name, groups in events.items() if name not in _SETTINGS)


def _not_run(place: str) -> str:
    return f"hooks of {place} are not run: this server has no hooks"
