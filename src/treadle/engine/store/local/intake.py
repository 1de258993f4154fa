"""Reads rollouts into the index: what each says of its thread, many files in one transaction.

Owns which of a thread's files its row names. Which files to read is decided by the catalog.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from treadle.engine.store.local.folder_watch import FileFacts
from treadle.engine.store.local.head_scan import Head, info_of, scan_head
from treadle.engine.store.local.packed_file import is_packed
from treadle.engine.store.local.rollout_files import ARCHIVED
from treadle.engine.store.local.thread_marks import ThreadMarks
from treadle.engine.store.local.thread_names import ThreadNames
from treadle.engine.store.thread_store import StorageFailed, ThreadInfo

if TYPE_CHECKING:
    from treadle.engine.store.local.index import Index


class _Found(msgspec.Struct):
    """A file that was read; without a head it holds no thread."""

    path: str
    facts: FileFacts
    head: Head | None


class Intake:
    """Takes the files of a home into its index."""

    def __init__(
        self, home: Path, files: dict[str, FileFacts], names: ThreadNames, marks: ThreadMarks
    ) -> None:
        """Take in what lies below `home`; what was read is noted in `files` as well."""
        self._home = home
        self._files = files
        self._names = names
        self._marks = marks

    def read(self, index: "Index", paths: list[str]) -> None:
        """Read files anew, those that are gone left out; raises StorageFailed."""
        found = [each for path in paths if (each := self._look(path)) is not None]
        with index.writing():
            index.drop_files(each.path for each in found if self._holds_another(each))
            files = {each.path: each.facts for each in found}
            self._files.update(files)
            index.put_files(files)
            index.put(*self._rows(index, [each for each in found if each.head is not None]))

    def _look(self, path: str) -> _Found | None:
        full = self._full(path)
        try:
            stat = os.stat(full)
        except OSError:
            return None
        try:
            head = scan_head(self._home, full)
        except (StorageFailed, OSError):
            head = None
        thread_id = head.created.thread_id if head is not None else None
        return _Found(path, FileFacts(stat.st_mtime_ns, stat.st_size, thread_id), head)

    def _holds_another(self, found: _Found) -> bool:
        """Whether another thread lies where one lay, or none."""
        before = self._files.get(found.path)
        return before is not None and before.thread_id not in (None, found.facts.thread_id)

    def _rows(self, index: "Index", found: list[_Found]) -> list[ThreadInfo]:
        """What the index is to say of the threads in these files."""
        rows = index.get_all([str(each.facts.thread_id) for each in found])
        for each in found:
            if each.head is not None:
                thread_id = each.head.created.thread_id
                rows[thread_id] = self._row(index, rows.get(thread_id), each, each.head)
        return list(rows.values())

    def _row(self, index: "Index", row: ThreadInfo | None, found: _Found, head: Head) -> ThreadInfo:
        if row is not None and _rank(index.relative(row.path or "")) > _rank(found.path):
            row.preview = row.preview or head.preview
            return row
        info = info_of(head, self._full(found.path), found.facts.mtime_ns / 1e9)
        info.archived = is_archived(found.path)
        info.name = self._names.get(info.thread_id)
        if row is not None:
            info.preview = info.preview or row.preview
        self._marks.apply(info)
        return info

    def _full(self, path: str) -> str:
        return f"{self._home}/{path}"


def is_archived(path: str) -> bool:
    """Whether a file, by its path within the home, lies in the archive."""
    return path.startswith(f"{ARCHIVED}/")


def _rank(path: str) -> tuple[bool, str, bool]:
    """Which of a thread's files its row names: an active one, the newest of those, unpacked."""
    return not is_archived(path), path.rpartition("/")[2].removesuffix(".zst"), not is_packed(path)
