"""Looks through all rollouts of a home for what is damaged, and mends what can be mended.

Nothing that anybody wrote is ever removed: a line that cannot be read stays where it is, and is
passed over by readers. Mended are the ends of files, scratch files of copies that were cut short,
and the index.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from treadle.domain.records import ThreadCreated
from treadle.engine.store.local.catalog import Catalog
from treadle.engine.store.local.codec import LineReader
from treadle.engine.store.local.file_heads import history_base
from treadle.engine.store.local.head_scan import scan_head
from treadle.engine.store.local.index import FILE, Index
from treadle.engine.store.local.ownership import acquire
from treadle.engine.store.local.packed_file import is_packed
from treadle.engine.store.local.rollout_files import (
    ARCHIVED,
    SESSIONS,
    detach,
    find_by_name,
    head_of,
    is_rollout,
    open_stream,
    walk,
)
from treadle.engine.store.thread_store import StorageFailed, WriterConflict
from treadle.kit.clock import Clock

_LINES_NAMED = 5
_SCRATCH = (".copy", ".unpacking")


class Finding(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One thing that is not as it should be."""

    path: str
    problem: str
    """`empty`, `unreadable`, `noHead`, `badLines`, `tornEnd`, `baseMissing`, `twice`, `scratch`,
    `indexMissing`, `indexStale`."""
    detail: str
    thread_id: str | None = None
    repaired: bool = False
    harmless: bool = False
    """Nothing can or needs to be done: all that is readable is read."""


class Report(msgspec.Struct, kw_only=True, rename="camel"):
    """What a check saw."""

    home: str
    files: int = 0
    threads: int = 0
    findings: list[Finding] = []

    @property
    def sound(self) -> bool:
        """Whether nothing is left that a repair could mend."""
        return all(finding.repaired or finding.harmless for finding in self.findings)


def check_home(home: Path, clock: Clock, *, repair: bool = False) -> Report:
    """Look through a home; with `repair`, mend what can be mended.

    A thread that somebody writes is looked at and left alone.

    Raises:
        StorageFailed: the index or the folder of locks cannot be used.
    """
    check = _Check(home, clock, repair=repair)
    check.scratch()
    for path in walk(home):
        check.file(path)
    check.index()
    check.report.threads = len(check.homes)
    return check.report


class _Check:
    def __init__(self, home: Path, clock: Clock, *, repair: bool) -> None:
        self._home = home
        self._clock = clock
        self._repair = repair
        self.report = Report(home=str(home), findings=[])
        self.homes: dict[str, Path] = {}
        """Where each thread was seen first."""

    def scratch(self) -> None:
        """Copies that were cut short: the original is still there."""
        for base in (SESSIONS, ARCHIVED):
            for folder, _, names in os.walk(self._home / base):
                for name in names:
                    if not name.startswith(".rollout-") or not name.endswith(_SCRATCH):
                        continue
                    path = Path(folder, name)
                    finding = self._found(path, "scratch", "left of a copy that was cut short")
                    if self._repair:
                        path.unlink(missing_ok=True)
                        finding.repaired = True

    def file(self, path: Path) -> None:
        """One rollout."""
        self.report.files += 1
        try:
            reader, end = self._read(path)
        except (StorageFailed, OSError) as error:
            self._found(path, "unreadable", str(error))
            return
        if end is None:
            self._found(path, "empty", "the file is empty", harmless=True)
            return
        head = reader.records[0] if reader.records else None
        if not isinstance(head, ThreadCreated):
            self._found(path, "noHead", "its first line names no thread", harmless=True)
            return
        thread_id = head.thread_id
        if not end.endswith(b"\n") and not is_packed(path):
            self._torn(path, thread_id, end)
        self._base(path, thread_id)
        other = self.homes.setdefault(thread_id, path)
        plain = str(other).removesuffix(".zst") == str(path).removesuffix(".zst")
        if other is not path and plain:
            detail = f"also there as {other.name}; the plain file counts"
            self._found(path, "twice", detail, thread_id, harmless=True)

    def _read(self, path: Path) -> tuple[LineReader, bytes | None]:
        """The file's records, and its last line; None for an empty file."""
        reader, bad, number = LineReader(), list[int](), 0
        line: bytes | None = None
        with open_stream(path) as stream:
            for line in stream:
                number += 1
                before = reader.skipped
                reader.feed(line)
                if reader.skipped > before and line.endswith(b"\n"):
                    bad.append(number)
        if bad and reader.records:
            named = ", ".join(map(str, bad[:_LINES_NAMED])) + (" ..." if bad[_LINES_NAMED:] else "")
            detail = f"{len(bad)} lines cannot be read and are passed over: {named}"
            self._found(path, "badLines", detail, harmless=True)
        return reader, line

    def _torn(self, path: Path, thread_id: str, end: bytes) -> None:
        detail = f"its last line has no end ({len(end)} bytes)"
        finding = self._found(path, "tornEnd", detail, thread_id)
        if not self._repair:
            return
        try:
            lease = acquire(self._home, thread_id, self._clock)
        except WriterConflict as error:
            finding.detail += f"; left alone: {error}"
            return
        try:
            if lease.taken_over:
                detach(path)
            with path.open("ab") as file:
                file.write(b"\n")
            finding.repaired = True
        finally:
            lease.release()

    def _base(self, path: Path, thread_id: str) -> None:
        base = history_base(head_of(path))
        if base is not None and not find_by_name(self._home, base.thread_id):
            detail = f"builds on thread {base.thread_id}, which is not here"
            self._found(path, "baseMissing", detail, thread_id)

    def index(self) -> None:
        """Compare the index with the files; mending makes it anew."""
        if not (self._home / FILE).exists():
            return
        stale = list(self._stale_rows())
        if self._repair and stale:
            for suffix in ("", "-wal", "-shm"):
                (self._home / (FILE + suffix)).unlink(missing_ok=True)
            catalog = Catalog(self._home, self._clock, "")
            catalog.refresh()
            catalog.close()
            for finding in stale:
                finding.repaired = True

    def _stale_rows(self) -> Iterator[Finding]:
        index = Index(self._home)
        try:
            known = index.files()
            for path, facts in known.items():
                full = self._home / path
                if not full.exists():
                    yield self._found(full, "indexStale", "the index has a file that is gone")
                elif facts.thread_id is not None:
                    head = scan_head(self._home, str(full), ends=False)
                    if head is None or head.created.thread_id != facts.thread_id:
                        detail = f"the index takes it for thread {facts.thread_id}"
                        yield self._found(full, "indexStale", detail, facts.thread_id)
            for thread_id, path in self.homes.items():
                row = index.get(thread_id)
                if index.relative(str(path)) in known and row is None:
                    yield self._found(path, "indexMissing", "it has no row in the index", thread_id)
                elif row is not None and row.path and not self._holds(row.path, thread_id):
                    detail = f"its row in the index points at {row.path}"
                    yield self._found(path, "indexStale", detail, thread_id)
        finally:
            index.close()

    def _holds(self, path: str, thread_id: str) -> bool:
        if not is_rollout(os.path.basename(path)) or not os.path.exists(path):
            return False
        head = scan_head(self._home, path, ends=False)
        return head is not None and head.created.thread_id == thread_id

    def _found(
        self,
        path: Path,
        problem: str,
        detail: str,
        thread_id: str | None = None,
        *,
        harmless: bool = False,
    ) -> Finding:
        finding = Finding(
            path=str(path), problem=problem, detail=detail, thread_id=thread_id, harmless=harmless
        )
        self.report.findings.append(finding)
        return finding
