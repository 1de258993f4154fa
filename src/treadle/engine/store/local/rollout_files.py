"""Rollout files: where they lie, how they are found, read and appended to.

Owns paths and bytes. Lines become records in the codec; who may write is decided by ownership.
"""

import io
import os
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from treadle.engine.store.local.file_heads import HistoryBase, history_base
from treadle.engine.store.local.packed_file import is_packed, open_packed
from treadle.engine.store.thread_store import StorageFailed, WriterConflict
from treadle.kit.fault_points import reach

SESSIONS = "sessions"
ARCHIVED = "archived_sessions"
_NAME = (
    r"rollout-(?P<stamp>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)-(?P<id>[0-9a-fA-F-]{36})"
    r"(?:_(?P<segment>[0-9a-fA-F-]{36}))?\.jsonl(?P<packed>\.zst)?"
)
_MAX_BASES = 1000
_BLOCK_BYTES = 1 << 16
"""So much of a log is looked at at once."""
_lines = msgspec.json.Decoder(dict[str, Any])


class RolloutName(msgspec.Struct, frozen=True):
    """What a file's name tells: local time of creation, thread, later segment or not."""

    stamp: str
    thread_id: str
    segment: str | None
    packed: bool


def parse_name(name: str) -> RolloutName | None:
    """The parts of a rollout's file name; None for other files."""
    match = re.fullmatch(_NAME, name)
    if match is None:
        return None
    packed = match["packed"] is not None
    return RolloutName(match["stamp"], match["id"].lower(), match["segment"], packed)


def new_path(home: Path, thread_id: str, at_seconds: float) -> Path:
    """Where a thread made at this time is kept; folders and name go by local time."""
    local = datetime.fromtimestamp(at_seconds).astimezone()
    folder = home / SESSIONS / f"{local:%Y}" / f"{local:%m}" / f"{local:%d}"
    return folder / f"rollout-{local:%Y-%m-%dT%H-%M-%S}-{thread_id}.jsonl"


def dated_path(home: Path, name: str) -> Path | None:
    """Where an archived file belongs when it comes back; None when its name tells no date."""
    parts = parse_name(name)
    if parts is None:
        return None
    return home / SESSIONS / parts.stamp[:4] / parts.stamp[5:7] / parts.stamp[8:10] / name


def find_by_name(home: Path, thread_id: str) -> list[Path]:
    """All files whose name carries this thread id, oldest first; active ones before archived."""
    wanted = thread_id.lower()
    return [path for path in walk(home) if _names(path, wanted)]


def walk(home: Path) -> Iterator[Path]:
    """All rollout files below a home, in the order of their folders and names."""
    for base in (home / SESSIONS, home / ARCHIVED):
        for folder, folders, names in os.walk(base):
            folders.sort()
            for name in sorted(names):
                if is_rollout(name):
                    yield Path(folder, name)


def is_rollout(name: str) -> bool:
    """Whether a file's name is that of a rollout, plain or compressed, dated or not."""
    return name.startswith("rollout-") and name.endswith((".jsonl", ".jsonl.zst"))


def head_of(path: Path) -> dict[str, Any]:
    """Payload of the first line; empty when that is no head.

    Raises:
        StorageFailed: the file cannot be read.
    """
    with open_stream(path) as stream:
        first = stream.readline()
    try:
        line = _lines.decode(first)
    except msgspec.MsgspecError:
        return {}
    payload = line.get("payload")
    if line.get("type") == "session_meta" and isinstance(payload, dict):
        return cast("dict[str, Any]", payload)
    return line if "id" in line and "type" not in line else {}


def open_stream(path: Path | str) -> io.BufferedIOBase:
    """Open a rollout for reading, unpacking a compressed one on the way; raises StorageFailed.

    A compressed one that is damaged raises StorageFailed when the damage is read.
    """
    try:
        return open_packed(path) if is_packed(path) else open(path, "rb")
    except OSError as error:
        raise StorageFailed(f"cannot read rollout {path}: {error.strerror}") from error


def small_file(path: str, limit_bytes: int) -> bytes | None:
    """All of a plain file below a size; None when it is larger, or grows while it is read.

    Lists read thousands of these: no stream is made, and no room for more than is there.

    Raises:
        StorageFailed: the file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            data = os.read(fd, size + 1) if size < limit_bytes else None
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageFailed(f"cannot read rollout {path}: {error.strerror}") from error
    return data if data is not None and len(data) == size else None


def whole_lines(path: Path, end_byte: int | None = None) -> Iterator[bytes]:
    """A file's complete lines in handy blocks, up to a byte offset if given.

    A torn last line is left out. Blocks keep what a long log takes while it is read near to what
    comes of it.
    """
    with open_stream(path) as stream:
        left = sys.maxsize if end_byte is None else end_byte
        rest = b""
        while data := stream.read(min(left, _BLOCK_BYTES)):
            left -= len(data)
            end = data.rfind(b"\n") + 1
            if end:
                yield rest + data[:end]
                rest = data[end:]
            else:
                rest += data
    # Complete all the same: a program may end its last line without a line feed.
    if rest and _is_json(rest):
        yield rest + b"\n"


def lineage(home: Path, path: Path) -> Iterator[bytes]:
    """All lines of a log in blocks, file by file, those it builds upon in other files first.

    Raises:
        StorageFailed: a file cannot be read, or one that the log builds upon is missing.
    """
    parts: list[tuple[Path, int | None]] = [(path, None)]
    seen = {path}
    base = history_base(head_of(path))
    while base is not None:
        source = _base_file(home, base, seen)
        if source is None or len(seen) > _MAX_BASES:
            raise StorageFailed(f"rollout {path} builds on thread {base.thread_id}, not found here")
        seen.add(source)
        parts.append((source, base.end_byte_offset))
        base = history_base(head_of(source))
    while parts:
        yield from whole_lines(*parts.pop())


def mentions(path: Path, text: str) -> bool:
    """Whether a file's bytes may hold `text` in any case; True when bytes alone cannot tell.

    Programs differ in how they escape what is not plain ASCII, and a log may begin in another file.
    """
    plain = text.isascii() and text.isprintable() and not set(text) & set('"\\/<>&')
    if not plain or path.suffix == ".zst" or history_base(head_of(path)) is not None:
        return True
    with open_stream(path) as stream:
        return text.lower().encode() in stream.read().lower()


def move_all(thread_id: str, moves: list[tuple[Path, Path]]) -> None:
    """Move a thread's files; none when something is in the way of one.

    Raises:
        WriterConflict: a target is there already.
        StorageFailed: the system refused.
    """
    for _, target in moves:
        if os.path.lexists(target):
            raise WriterConflict(f"cannot move thread {thread_id}: {target} is in the way")
    try:
        for path, target in moves:
            private_folder(target.parent)
            reach("engine.move.beginning")
            path.rename(target)
            reach("engine.move.moved")
    except OSError as error:
        raise StorageFailed(f"cannot move thread {thread_id}: {error.strerror}") from error


def private_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user alone."""
    try:
        folder.mkdir(mode=0o700)
    except FileNotFoundError:
        private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise


def ends_whole(path: Path) -> bool:
    """Whether a file is empty or its last line is ended."""
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def unpack(path: Path) -> Path:
    """Put a compressed rollout's plain file in its place and return its path.

    Raises:
        StorageFailed: it cannot be unpacked whole; it stays as it is.
    """
    plain = path.with_suffix("")
    _copy(path, plain)
    path.unlink(missing_ok=True)
    return plain


def detach(path: Path) -> None:
    """Put a copy in a rollout's place, so that who has the old file open writes beside the log.

    Raises:
        StorageFailed: it cannot be copied; it stays as it is.
    """
    stat = path.stat()
    _copy(path, path, packed=False)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _copy(source: Path, target: Path, *, packed: bool = True) -> None:
    import shutil

    scratch = target.with_name(f".{target.name}.copy")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        with (
            open_stream(source) if packed else source.open("rb") as old,
            open(os.open(scratch, flags, 0o600), "wb") as file,
        ):
            shutil.copyfileobj(old, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    except OSError as error:
        raise StorageFailed(f"cannot copy rollout {source}: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)


class Appender:
    """Appends whole lines to one file; what was not written yet waits for the next try.

    The file appears with the first write. After a short write the rest goes first, so a line is
    never glued to half of another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = bytearray()
        self._fd: int | None = None

    @property
    def pending(self) -> bool:
        """Whether bytes still wait to be written."""
        return bool(self._pending)

    def put(self, data: bytes) -> None:
        """Take bytes of whole lines; `write` brings them to the file."""
        self._pending += data

    def write(self) -> None:
        """Hand everything that waits to the operating system; raises StorageFailed."""
        if not self._pending:
            return
        try:
            if self._fd is None:
                reach("engine.log.opening")
                self._fd = self._open()
            reach("engine.log.writing")
            while self._pending:
                del self._pending[: os.write(self._fd, self._pending)]
            reach("engine.log.written")
        except OSError as error:
            raise StorageFailed(f"cannot write rollout {self.path}: {error.strerror}") from error

    def discard(self) -> None:
        """Drop what was not written: it may not be written any more."""
        self._pending.clear()

    def sync(self) -> None:
        """Wait until the disk has it; may take long, so call it off the event loop."""
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        """Let the file go; idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        private_folder(self.path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o600)
        if not ends_whole(self.path):
            self._pending[:0] = b"\n"
        return fd


def _names(path: Path, thread_id: str) -> bool:
    parts = parse_name(path.name)
    return parts is not None and parts.thread_id == thread_id


def base_of(home: Path, path: Path) -> Path | None:
    """The file that a log directly builds upon; None when there is none, or it is missing."""
    base = history_base(head_of(path))
    return _base_file(home, base, {path}) if base is not None else None


def _base_file(home: Path, base: HistoryBase, seen: set[Path]) -> Path | None:
    """The newest file of the base thread that began before the base ends."""
    for path in reversed(find_by_name(home, base.thread_id)):
        if path in seen:
            continue
        with open_stream(path) as stream:
            first = stream.readline()
        try:
            ordinal = _lines.decode(first).get("ordinal") or 0
        except msgspec.MsgspecError:
            continue
        if ordinal < base.end_ordinal_exclusive:
            return path
    return None


def _is_json(line: bytes) -> bool:
    try:
        _lines.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True
