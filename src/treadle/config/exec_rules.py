"""The files of command rules: where they lie, and how one line is added.

`rules/*.rules` of the home folder and of the active projects' `.codex`. What the lines mean is not
known here.
"""

import os
from pathlib import Path

from treadle.config.settings import Config

_FOLDER = "rules"
MAX_BYTES = 1 << 20
"""A larger file is no list of rules."""


def read_rule_files(config: Config) -> tuple[list[tuple[Path, str]], list[str]]:
    """Path and text of every readable file in the order of their names, and what was unreadable."""
    folders = [config.home]
    for layer in config.stack.active:
        dot = layer.name.get("dotCodexFolder")
        if dot is not None:
            folders.append(Path(dot))
    texts: list[tuple[Path, str]] = []
    problems: list[str] = []
    for folder in folders:
        for path in _files(folder / _FOLDER):
            try:
                if path.stat().st_size > MAX_BYTES:
                    problems.append(f"{path} is too large for a file of rules")
                    continue
                texts.append((path, path.read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{path} cannot be read: {type(error).__name__}")
    return texts, problems


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".rules")
    except OSError:
        return []


def append_rule(home: Path, line: str) -> None:
    """Add a line to the home folder's `rules/default.rules`, unless it is there; raises OSError."""
    folder = home / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "default.rules"
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "r+b") as file:
        held = file.read()
        if line.encode() in held.splitlines():
            return
        torn = bool(held) and not held.endswith(b"\n")
        file.write(b"%b%b\n" % (b"\n" if torn else b"", line.encode()))
