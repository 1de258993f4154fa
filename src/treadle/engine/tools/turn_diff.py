"""What a turn changed in files, as one git-style diff.

Remembers each file as it was before the turn first touched it and compares with the disk when
asked. Runs no git: blob names are computed here, as git computes them.
"""

import hashlib
import os
import stat
from pathlib import Path

import msgspec

from treadle.engine.tools.unified_diff import unified_hunks

_CONTEXT = 3
_NO_BLOB = "0" * 40
MAX_FILE_BYTES = 16 << 20
"""Larger files are left out of the diff: it is for people to read."""


class _Snapshot(msgspec.Struct, frozen=True):
    data: bytes
    mode: str

    @property
    def blob(self) -> str:
        header = f"blob {len(self.data)}\0".encode()
        return hashlib.sha1(header + self.data, usedforsecurity=False).hexdigest()


class TurnDiff:
    """The journal of one turn's file changes."""

    def __init__(self, cwd: str) -> None:
        """Show paths relative to the repository that `cwd` lies in, or to `cwd` outside of any."""
        self._cwd = cwd
        self._root: str | None = None
        self._before: dict[str, _Snapshot | None] = {}

    def before_change(self, path: str) -> None:
        """Remember `path` (absolute) unless the turn has touched it already."""
        if path not in self._before:
            self._before[path] = _snapshot(path)

    def diff(self) -> str:
        """All changes so far, by path; empty when everything is as it was."""
        shown = sorted((self._shown(path), path) for path in self._before)
        return "".join(_file_diff(name, self._before[path], path) for name, path in shown)

    def _shown(self, path: str) -> str:
        if self._root is None:
            self._root = _repository(self._cwd) or self._cwd
        inside = path.startswith(self._root.rstrip("/") + "/")
        return os.path.relpath(path, self._root) if inside else path


def _repository(cwd: str) -> str | None:
    for folder in (Path(cwd), *Path(cwd).parents):
        if (folder / ".git").exists():
            return str(folder)
    return None


def _snapshot(path: str) -> _Snapshot | None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            return None
        mode = "100755" if status.st_mode & stat.S_IXUSR else "100644"
        return _Snapshot(Path(path).read_bytes(), mode)
    except OSError:
        return None


def _file_diff(name: str, before: _Snapshot | None, path: str) -> str:
    after = _snapshot(path)
    if before == after:
        return ""
    parts = [f"diff --git a/{name} b/{name}\n"]
    if before is None and after is not None:
        parts.append(f"new file mode {after.mode}\n")
    elif after is None and before is not None:
        parts.append(f"deleted file mode {before.mode}\n")
    parts.append(f"index {before.blob if before else _NO_BLOB}..")
    parts.append(f"{after.blob if after else _NO_BLOB}\n")
    parts.append(_body(name, before, after))
    return "".join(parts)


def _body(name: str, before: _Snapshot | None, after: _Snapshot | None) -> str:
    old_name = f"a/{name}" if before else "/dev/null"
    new_name = f"b/{name}" if after else "/dev/null"
    try:
        old = before.data.decode() if before else ""
        new = after.data.decode() if after else ""
    except UnicodeDecodeError:
        return f"Binary files {old_name} and {new_name} differ\n"
    hunks = unified_hunks(old, new, _CONTEXT)
    return f"--- {old_name}\n+++ {new_name}\n{hunks}" if hunks else ""
