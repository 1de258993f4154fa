"""What a list needs of a rollout, from its first lines alone.

Reads until the first user message and no further, so that a long log costs no more than a short
one. Everything it finds can be found again: indexes are built from this.
"""

from pathlib import Path

import msgspec

from treadle.domain import history
from treadle.domain.records import SettingsApplied, ThreadCreated, TurnContext
from treadle.engine.store.local.codec import LineReader
from treadle.engine.store.local.rollout_files import base_of, open_stream

_SCAN_BYTES = 8 << 20
"""A log that says nothing of a user within this many bytes counts as having no preview."""


class Head(msgspec.Struct, kw_only=True):
    """A thread's beginning: its first record, first words and first settings."""

    created: ThreadCreated
    preview: str
    model: str | None = None
    effort: str | None = None
    built_on_another: bool = False


def scan_head(home: Path, path: str) -> Head | None:
    """The head of a rollout; None when its first line is no head that names an id.

    A log that builds upon another file began there: its first words are that file's.

    Raises:
        StorageFailed: the file cannot be read.
    """
    head = _scan(path)
    if head is None or not head.built_on_another:
        return head
    source = base_of(home, Path(path))
    began = _scan(source) if source is not None else None
    if began is not None:
        head.preview = began.preview or head.preview
    return head


def _scan(path: Path | str) -> Head | None:
    reader = LineReader()
    seen = 0
    size = 0
    preview = ""
    with open_stream(path) as stream:
        for line in stream:
            if not line.endswith(b"\n") and seen:
                break
            size += len(line)
            reader.feed(line)
            fresh = reader.records[seen:]
            seen = len(reader.records)
            if not fresh:
                continue
            if not isinstance(reader.records[0], ThreadCreated):
                return None
            preview = preview or history.preview(fresh)
            if preview or size > _SCAN_BYTES:
                break
    return _head_of(reader, preview)


def _head_of(reader: LineReader, preview: str) -> Head | None:
    records = reader.records
    if not records or not isinstance(records[0], ThreadCreated):
        return None
    head = Head(created=records[0], preview=preview)
    head.built_on_another = reader.built_on_another
    for record in records:
        if isinstance(record, SettingsApplied | TurnContext):
            head.model = record.settings.model or None
            head.effort = record.settings.effort
    return head
