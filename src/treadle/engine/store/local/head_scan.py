"""What a list needs of a rollout: its first lines, and the last settings and words of a user.

Reads neither more than a small file whole nor what lies between the two ends of a long one: a
turn of more than a few million bytes hides the settings it began with, and the first ones count.
Everything it finds can be found again: indexes are built from this.
"""

import io
import os
from pathlib import Path

import msgspec

from treadle.domain import history
from treadle.domain.items import UserMessage
from treadle.domain.policy import Settings
from treadle.domain.records import (
    ItemDone,
    SettingsApplied,
    ThreadCreated,
    ThreadRecord,
    TurnContext,
)
from treadle.engine.store.local.codec import LineReader
from treadle.engine.store.local.packed_file import is_packed
from treadle.engine.store.local.rollout_files import base_of, open_stream, small_file
from treadle.engine.store.metadata import fresh_info
from treadle.engine.store.thread_store import StorageFailed, ThreadInfo

_SMALL_BYTES = 1 << 18
"""A file up to this size is read at once."""
_END_BYTES = 1 << 22
"""Settings, and words of a user, are looked for in so much of a file's end."""
_SCAN_BYTES = 8 << 20
"""A log that says nothing of a user within this many bytes counts as having no preview."""
_SETTINGS = (b'"turn_context"', b'"thread_settings_applied"')
_ASKED = (b'"user_message"', b'"UserMessage"')


class Head(msgspec.Struct, kw_only=True):
    """What a thread's file tells lists; times are unix seconds."""

    created: ThreadCreated
    preview: str
    settings: Settings | None = None
    asked_at: float | None = None
    """When a user last said something."""
    built_on_another: bool = False
    read_bytes: int = 0
    """How far the file was read for the first words."""
    said_at: float | None = None
    """When those were said, if a line of the usual kinds, the last one read, has them."""


def info_of(head: Head, path: str, changed_at: float) -> ThreadInfo:
    """Metadata of the thread in a file that was last changed at `changed_at`."""
    info = fresh_info(head.created, changed_at, path)
    info.updated_at = changed_at
    info.preview = head.preview
    info.recency_at = max(info.created_at, head.asked_at or 0.0)
    if head.settings is not None:
        info.settings = head.settings
        info.model, info.effort = head.settings.model or None, head.settings.effort
    return info


def scan_head(home: Path, path: str, *, ends: bool = True) -> Head | None:
    """What a rollout tells; None when its first line is no head that names an id.

    A log that builds upon another file began there: its first words are that file's.

    Args:
        home: where files are that others build upon.
        path: the rollout.
        ends: whether to look for what comes last as well.

    Raises:
        StorageFailed: the file cannot be read.
    """
    head = _scan(path, ends=ends)
    if head is None or not head.built_on_another:
        return head
    source = base_of(home, Path(path))
    began = _scan(str(source), ends=ends) if source is not None else None
    if began is not None:
        head.preview = began.preview or head.preview
        head.settings = head.settings or began.settings
    return head


def _scan(path: str, *, ends: bool) -> Head | None:
    packed = is_packed(path)
    begin = None if packed else small_file(path, _SMALL_BYTES)
    if begin is not None:
        return _scan_whole(begin, ends=ends)
    with open_stream(path) as stream:
        if packed:
            return _scan_whole(_readable(stream), ends=ends)
        begin = stream.read(_SMALL_BYTES)
        head = _begin(begin, whole=False) or _begin(begin + stream.read(_SCAN_BYTES), whole=True)
        if head is None or not ends:
            return head
        size = stream.seek(0, os.SEEK_END)
        for length in (_SMALL_BYTES, _END_BYTES):
            stream.seek(max(0, size - length))
            if _end(head, stream.read()):
                return head
    if head.settings is None:
        _add_settings(head, begin)
    return head


def _scan_whole(data: bytes, *, ends: bool) -> Head | None:
    head = _begin(data, whole=True)
    if head is not None and ends:
        _whole_end(head, data)
    return head


def _readable(stream: io.BufferedIOBase) -> bytes:
    """What of a compressed file can be unpacked: lists show a damaged one all the same."""
    parts: list[bytes] = []
    try:
        while part := stream.read1(_SMALL_BYTES):
            parts.append(part)
    except StorageFailed:
        if not parts:
            raise
    return b"".join(parts)


def _begin(data: bytes, *, whole: bool) -> Head | None:
    """The head and first words; None when there is no head, or not all of it in a mere part."""
    reader = LineReader()
    seen = at = 0
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        if data[end - 1] != 10 and seen:
            break
        begin, at = at, end
        reader.feed(data[begin:end])
        fresh = reader.records[seen:]
        if not fresh:
            continue
        seen = len(reader.records)
        if not isinstance(reader.records[0], ThreadCreated):
            return None
        if words := history.preview(fresh):
            head = _head_of(reader, words)
            if head is not None and any(data.find(mark, begin, end) >= 0 for mark in _ASKED):
                head.read_bytes, head.said_at = end, fresh[-1].at
            return head
    return _head_of(reader, "") if whole and reader.records else None


def _head_of(reader: LineReader, preview: str) -> Head | None:
    created = reader.records[0]
    if not isinstance(created, ThreadCreated):
        return None
    return Head(created=created, preview=preview, built_on_another=reader.built_on_another)


def _whole_end(head: Head, data: bytes) -> None:
    """Add what comes last in a log that is read from its beginning on."""
    if head.said_at is None or any(data.find(mark, head.read_bytes) >= 0 for mark in _ASKED):
        _end(head, data)
        return
    # Most logs that lists meet have one message of a user: it is the last one as well.
    head.asked_at = head.said_at
    _add_settings(head, data)


def _end(head: Head, data: bytes) -> bool:
    """Add what comes last in a log; whether all of it was found."""
    settled = _add_settings(head, data)
    asked = _last(data, _ASKED, head.created, ItemDone)
    if asked is not None:
        head.asked_at = asked.at
    return settled and asked is not None


def _add_settings(head: Head, data: bytes) -> bool:
    """Add the last settings in a log; whether there are any."""
    settings = _last(data, _SETTINGS, head.created, SettingsApplied, TurnContext)
    if not isinstance(settings, SettingsApplied | TurnContext):
        return False
    head.settings = settings.settings
    return True


def _last(
    data: bytes, marks: tuple[bytes, ...], created: ThreadCreated, *kinds: type[ThreadRecord]
) -> ThreadRecord | None:
    """The last record of a kind, whose lines contain one of the marks."""
    until = len(data)
    while True:
        at = max(data.rfind(mark, 0, until) for mark in marks)
        if at < 0:
            return None
        begin = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at)
        reader = LineReader(created.model_provider)
        reader.feed(data[begin : end if end >= 0 else len(data)])
        for record in reversed(reader.records):
            if isinstance(record, kinds) and not _is_answer(record):
                return record
        until = begin


def _is_answer(record: ThreadRecord) -> bool:
    return isinstance(record, ItemDone) and not isinstance(record.item, UserMessage)
