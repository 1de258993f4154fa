"""From a parsed patch to the files it would leave: checked before anything is written.

Reads files, writes none but on request. A plan of edits is made against the files as they are, with
earlier changes of the same patch seen by later ones; only when all of it fits is it carried out.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from treadle.domain.items import FileUpdate
from treadle.engine.tools.patch import (
    AddFile,
    Change,
    DeleteFile,
    PatchError,
    UpdateFile,
    apply_hunks,
)
from treadle.engine.tools.unified_diff import unified_hunks

MAX_FILE_BYTES = 64 << 20
"""Larger files are not patched: they are no text, and would be held in memory twice."""
_ITEM_CONTEXT = 1
"""Lines of context in an item's hunks, as the references show them."""


class Edit(msgspec.Struct, frozen=True):
    """What one change does: `path` ends as `after` (None: gone), or moves to `move_to`."""

    letter: str
    shown: str
    """The path as the patch wrote it."""
    path: str
    before: str | None
    after: str | None
    move_to: str | None = None

    @property
    def touched(self) -> tuple[str, ...]:
        """Every path it writes or removes."""
        return (self.path,) if self.move_to is None else (self.path, self.move_to)


class _Overlay(msgspec.Struct):
    """Files as they will be after the edits so far."""

    texts: dict[str, str | None] = msgspec.field(default_factory=dict[str, str | None])

    def read(self, path: str, refusal: str) -> str:
        if path in self.texts:
            text = self.texts[path]
            if text is None:
                raise PatchError(f"{refusal} {path}: No such file or directory (os error 2)")
            return text
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                # Opening a pipe would wait for somebody to write to it.
                raise PatchError(f"{refusal} {path}: path `{path}` is not a file")
            if status.st_size > MAX_FILE_BYTES:
                raise PatchError(f"{refusal} {path}: the file is too large to be patched")
            data = Path(path).read_bytes()
        except OSError as error:
            reason = f"{os.strerror(error.errno or 0)} (os error {error.errno})"
            raise PatchError(f"{refusal} {path}: {reason}") from error
        return data.decode("utf-8", "surrogateescape")

    def look(self, path: str) -> str | None:
        try:
            return self.read(path, "")
        except PatchError:
            return None


def plan_edits(changes: list[Change], folder: str) -> list[Edit]:
    """The edits that `changes` come to, with relative paths taken from `folder`.

    Raises:
        PatchError: a file is missing or unreadable, or a hunk does not fit.
    """
    overlay = _Overlay()
    edits: list[Edit] = []
    for change in changes:
        edit = _edit(change, folder, overlay)
        overlay.texts[edit.path] = None if edit.move_to else edit.after
        if edit.move_to is not None:
            overlay.texts[edit.move_to] = edit.after
        edits.append(edit)
    return edits


def _edit(change: Change, folder: str, overlay: _Overlay) -> Edit:
    path = os.path.normpath(os.path.join(folder, change.path))
    match change:
        case AddFile():
            if os.path.isdir(path):
                raise PatchError(f"Failed to write file {path}: Is a directory (os error 21)")
            return Edit("A", change.path, path, overlay.look(path), change.content)
        case DeleteFile():
            before = overlay.read(path, "Failed to read")
            return Edit("D", change.path, path, before, None)
        case UpdateFile():
            before = overlay.read(path, "Failed to read file to update")
            after = apply_hunks(before, change.hunks, path) if change.hunks else before
            if change.move_to is None:
                return Edit("M", change.path, path, before, after)
            target = os.path.normpath(os.path.join(folder, change.move_to))
            moved = None if target == path else target
            return Edit("M", change.move_to, path, before, after, moved)


def shown_changes(edits: list[Edit]) -> list[FileUpdate]:
    """The edits as a fileChange item lists them."""
    return [
        FileUpdate(path=edit.path, kind=_kind(edit), diff=_presentable(_diff(edit)))
        for edit in edits
    ]


def _kind(edit: Edit) -> dict[str, str | None]:
    match edit.letter:
        case "A":
            return {"type": "add"}
        case "D":
            return {"type": "delete"}
        case _:
            return {"type": "update", "move_path": edit.move_to}


def _diff(edit: Edit) -> str:
    if edit.letter == "A":
        return edit.after or ""
    if edit.letter == "D":
        return edit.before or ""
    hunks = unified_hunks(edit.before or "", edit.after or "", _ITEM_CONTEXT)
    return f"{hunks}\n\nMoved to: {edit.move_to}" if edit.move_to else hunks


def _presentable(text: str) -> str:
    """`text` without the stand-ins for bytes that are not UTF-8, which no JSON may carry."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def carry_out(edits: list[Edit], before_change: Callable[[str], None]) -> None:
    """Write all edits to disk; each file is replaced whole, never half written.

    Args:
        edits: what to do, in order.
        before_change: told each path before it is touched.

    Raises:
        OSError: the system refused; edits before the failing one stay.
    """
    for edit in edits:
        for path in edit.touched:
            before_change(path)
        if edit.after is None:
            os.unlink(edit.path)
            continue
        mode = _mode(edit.path)
        _write(edit.move_to or edit.path, edit.after, mode)
        if edit.move_to is not None:
            os.unlink(edit.path)


def _mode(path: str) -> int | None:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None


def _write(path: str, text: str, mode: int | None) -> None:
    # A link stays a link: its target is what changes.
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".treadle-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.chmod(temporary, 0o666 & ~_umask() if mode is None else mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    """The process's umask, read from /proc since asking by setting it is a race."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o022
