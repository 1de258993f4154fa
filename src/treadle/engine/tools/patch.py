"""The patch language models write: `*** Begin Patch` ... `*** End Patch`, parsed and applied.

Owns the grammar and what a hunk does to a text. Reaches no file: who applies a patch hands in the
old text and gets the new one. How leniently a hunk's lines are found in a file is the business of
`patch_match`. Error texts are those that models have been trained on (reference 0.169.0).
"""

import msgspec

from treadle.engine.tools.patch_match import find_lines

BEGIN, END = "*** Begin Patch", "*** End Patch"
_ADD, _DELETE, _UPDATE = "*** Add File: ", "*** Delete File: ", "*** Update File: "
_MOVE, _EOF = "*** Move to: ", "*** End of File"
_ENVIRONMENT = "*** Environment ID: "


class PatchError(Exception):
    """The patch cannot be read or does not fit; the text tells the model why."""


class Hunk(msgspec.Struct, frozen=True):
    """One change of an updated file: where to look, what to find, what to put there."""

    context: str | None
    """Text of the `@@` line: a line to go to first."""
    lines: tuple[str, ...]
    """With their sign: blank (stays), minus (goes), plus (comes)."""
    at_end: bool = False
    """Whether the lines must be the file's last ones."""

    @property
    def old(self) -> list[str]:
        """The lines to find."""
        return [line[1:] for line in self.lines if line[0] != "+"]


class AddFile(msgspec.Struct, frozen=True):
    """Create a file, or replace it whole."""

    path: str
    content: str


class DeleteFile(msgspec.Struct, frozen=True):
    """Remove a file."""

    path: str


class UpdateFile(msgspec.Struct, frozen=True):
    """Change a file by hunks, and perhaps move it."""

    path: str
    hunks: tuple[Hunk, ...]
    move_to: str | None = None


Change = AddFile | DeleteFile | UpdateFile


class _Reader(msgspec.Struct):
    """The patch's lines between its markers, with the line number for errors."""

    lines: list[str]
    at: int = 0
    number: int = msgspec.field(default=2)

    @property
    def line(self) -> str | None:
        return self.lines[self.at] if self.at < len(self.lines) else None

    def take(self) -> str:
        line = self.lines[self.at]
        self.at += 1
        self.number += 1
        return line

    def refuse(self, why: str) -> PatchError:
        return PatchError(f"invalid hunk at line {self.number}, {why}")


def parse_patch(text: str) -> list[Change]:
    """The changes that a patch asks for, in its order.

    Surrounding blank lines and a here-document wrapper (`<<'EOF'` ... `EOF`) are forgiven.

    Raises:
        PatchError: the text is no patch, or names no change.
    """
    lines = _unwrap(text.strip().splitlines())
    if not lines or lines[0].strip() != BEGIN:
        raise PatchError("invalid patch: The first line of the patch must be '*** Begin Patch'")
    if len(lines) < 2 or lines[-1].strip() != END:
        raise PatchError("invalid patch: The last line of the patch must be '*** End Patch'")
    reader = _Reader(lines[1:-1])
    if reader.line is not None and reader.line.startswith(_ENVIRONMENT):
        reader.take()
    changes: list[Change] = []
    while reader.line is not None:
        if not reader.line.strip():
            reader.take()
            continue
        changes.append(_change(reader))
    return changes


def _unwrap(lines: list[str]) -> list[str]:
    opened = len(lines) >= 4 and lines[0].strip() in ("<<EOF", "<<'EOF'", '<<"EOF"')
    return lines[1:-1] if opened and lines[-1].strip().endswith("EOF") else lines


def _change(reader: _Reader) -> Change:
    header = (reader.line or "").strip()
    if header.startswith(_ADD):
        reader.take()
        return AddFile(header[len(_ADD) :], _added(reader))
    if header.startswith(_DELETE):
        reader.take()
        return DeleteFile(header[len(_DELETE) :])
    if header.startswith(_UPDATE):
        return _update(reader)
    raise reader.refuse(
        f"'{header}' is not a valid hunk header. Valid hunk headers: '*** Add File: {{path}}', "
        "'*** Delete File: {path}', '*** Update File: {path}'"
    )


def _added(reader: _Reader) -> str:
    content: list[str] = []
    while reader.line is not None and reader.line.startswith("+"):
        content.append(reader.take()[1:] + "\n")
    return "".join(content)


def _update(reader: _Reader) -> UpdateFile:
    empty = reader.refuse("Update file hunk for path '{}' is empty")
    path = reader.take().strip()[len(_UPDATE) :]
    move_to = None
    if reader.line is not None and reader.line.strip().startswith(_MOVE):
        move_to = reader.take().strip()[len(_MOVE) :]
    hunks: list[Hunk] = []
    while (line := reader.line) is not None:
        if not line.strip():
            reader.take()
            continue
        if line.startswith("***"):
            break
        hunks.append(_hunk(reader, first=not hunks))
    if not hunks and move_to is None:
        raise PatchError(str(empty).replace("{}", path, 1))
    return UpdateFile(path, tuple(hunks), move_to)


def _hunk(reader: _Reader, *, first: bool) -> Hunk:
    line = reader.line or ""
    context = None
    if line.startswith("@@"):
        reader.take()
        if line.strip() != "@@":
            context = line[2:].removeprefix(" ")
    elif not first:
        raise reader.refuse(
            f"Expected update hunk to start with a @@ context marker, got: '{line}'"
        )
    lines: list[str] = []
    at_end = _body(reader, lines)
    if not lines:
        raise reader.refuse("Update hunk does not contain any lines")
    return Hunk(context, tuple(lines), at_end)


def _body(reader: _Reader, lines: list[str]) -> bool:
    """Collect a hunk's lines; True when it ends with the end-of-file marker."""
    while (line := reader.line) is not None:
        if line.strip() == _EOF and lines:
            reader.take()
            return True
        if line[:1] in ("+", "-", " "):
            lines.append(reader.take())
        elif not line:
            # Models drop the single blank of an empty context line.
            reader.take()
            lines.append(" ")
        elif lines:
            return False
        else:
            raise reader.refuse(
                f"Unexpected line found in update hunk: '{line}'. Every line should start with "
                "' ' (context line), '+' (added line), or '-' (removed line)"
            )
    return False


def apply_hunks(text: str, hunks: tuple[Hunk, ...], path: str) -> str:
    """The text of a file after `hunks`, with its line endings kept and a final newline.

    Args:
        text: the file as it is.
        hunks: the changes, in the order of the file.
        path: how error texts name the file.

    Raises:
        PatchError: a hunk's context or lines are not in the file.
    """
    ending = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    raw = text.split("\n")
    if raw and not raw[-1]:
        raw.pop()
    bare = [line.removesuffix("\r") for line in raw]
    result: list[str] = []
    done = 0
    for start, signed in _placed(bare, hunks, path):
        result += raw[done:start]
        done = start
        for line in signed:
            if line[0] == "+":
                result.append(line[1:].removesuffix("\r") + ending.removesuffix("\n"))
                continue
            if line[0] == " ":
                # What the file has, not what the patch says it has: it may differ in blanks.
                result.append(raw[done])
            done += 1
    result += raw[done:]
    joined = "\n".join(result)
    if result and not joined.endswith("\n"):
        joined += ending if not joined.endswith("\r") else "\n"
    return joined


def _placed(
    lines: list[str], hunks: tuple[Hunk, ...], path: str
) -> list[tuple[int, tuple[str, ...]]]:
    """Where each hunk's signed lines go, in file order."""
    placed: list[tuple[int, tuple[str, ...]]] = []
    cursor = 0
    for hunk in hunks:
        if hunk.context is not None:
            found = find_lines(lines, [hunk.context], cursor)
            if found is None:
                raise PatchError(f"Failed to find context '{hunk.context}' in {path}")
            cursor = found + 1
        old = hunk.old
        if not old:
            # Without lines to find, the addition goes to the end of the file.
            placed.append((len(lines), hunk.lines))
            continue
        signed = hunk.lines
        start = find_lines(lines, old, cursor, at_end=hunk.at_end)
        if start is None and not old[-1]:
            # A blank last line often stands for the final newline, which is no line.
            old.pop()
            signed = _without_last_blank(signed)
            start = find_lines(lines, old, cursor, at_end=hunk.at_end)
        if start is None:
            raise PatchError(f"Failed to find expected lines in {path}:\n" + "\n".join(hunk.old))
        placed.append((start, signed))
        cursor = start + len(old)
    return sorted(placed, key=lambda entry: entry[0])


def _without_last_blank(signed: tuple[str, ...]) -> tuple[str, ...]:
    """Without the last line to find, which is blank; a blank last addition goes with it."""
    lines = list(signed)
    last = max(index for index, line in enumerate(lines) if line[0] != "+")
    removed = lines.pop(last)
    if removed[0] == "-" and lines and lines[-1] == "+":
        lines.pop()
    return tuple(lines)
