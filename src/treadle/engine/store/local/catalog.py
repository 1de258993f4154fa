"""Which threads a home holds: the index, kept true to the files it is made from.

Every list first learns which files came and went (one stat per folder), reads the heads of new
ones, and checks the rows it returns against their files. Blocking; used from one worker thread.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from treadle.engine.store.listing import check_query, cut_page, levels
from treadle.engine.store.local.backfill import Turns
from treadle.engine.store.local.file_heads import history_base
from treadle.engine.store.local.folder_watch import FileFacts, FolderWatch
from treadle.engine.store.local.intake import Intake, is_archived
from treadle.engine.store.local.rollout_files import (
    ARCHIVED,
    SESSIONS,
    dated_path,
    find_by_name,
    head_of,
    move_all,
    parse_name,
)
from treadle.engine.store.local.thread_marks import ThreadMarks
from treadle.engine.store.local.thread_names import ThreadNames
from treadle.engine.store.metadata import apply_patch
from treadle.engine.store.thread_store import (
    InvalidQuery,
    StorageFailed,
    ThreadInfo,
    ThreadNotFound,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
    WriterConflict,
)
from treadle.kit.clock import Clock
from treadle.kit.fault_points import reach

if TYPE_CHECKING:
    from treadle.engine.store.local.index import Index

_BATCH = 100
"""Files read in the background at a time; requests wait no longer than for these."""
_MANY = 500
"""Files that a list reads in one transaction: each writes the same pages of the index again."""
_SHARED = 20
"""So many files are worth taking turns with other processes."""
_TRIES = 10
"""Pages are read again while other programs change their files, but not for ever."""
_SWEEP_SECONDS = 1.0
_SWEEP_SHARE = 20
"""Looking at every file's time may take one part in this many of the time between two looks."""


class Catalog:
    """Metadata of a home's threads. Used from one thread at a time."""

    def __init__(self, home: Path, clock: Clock, default_provider: str) -> None:
        """Serve the threads below `home`; nothing is opened before it is asked for."""
        self._home = home
        self._clock = clock
        self._default_provider = default_provider
        self._watch = FolderWatch(home, clock)
        self._names = ThreadNames(home, clock)
        self._marks = ThreadMarks(home, clock)
        self._opened: Index | None = None
        self._files: dict[str, FileFacts] = {}
        self._intake = Intake(home, self._files, self._names, self._marks)
        self._turns = Turns(home, clock)
        self._first = True
        self._waiting: set[str] = set()
        """Files that were seen and not read yet."""
        self._next_sweep = 0.0

    def find(self, thread_id: str) -> ThreadInfo:
        """Metadata of one thread; raises ThreadNotFound, StorageFailed when its file is broken."""
        info = self._row(thread_id)
        if info is None and self._exists():
            # Its file's name most often tells; one that does not is found by reading all.
            self._notice()
            named = find_by_name(self._home, thread_id)
            self._read_all([self._index.relative(str(path)) for path in named])
            info = self._row(thread_id)
        if info is None and self._exists():
            self._sync()
            self._sweep()
            info = self._row(thread_id)
        if info is None:
            self._explain(thread_id)
            raise ThreadNotFound(thread_id)
        return self._with_default(info)

    def page(self, query: ThreadQuery, live: Iterable[str] = ()) -> ThreadPage:
        """One page of the list; raises InvalidQuery.

        Args:
            query: which threads, in which order, from where.
            live: threads that this process is writing, whose files change all the time.
        """
        anchor = check_query(query)
        if not self._exists():
            return ThreadPage(threads=[])
        self._sync()
        for thread_id in live:
            self._row(thread_id, live=True)
        if query.sort_key != "created_at":
            self._sweep()
        rows = self._index.page(query, anchor, self._default_provider)
        for _ in range(_TRIES):
            if self._still_true(rows):
                break
            rows = self._index.page(query, anchor, self._default_provider)
        return cut_page([self._with_default(row) for row in rows], query)

    def update(self, thread_id: str, patch: ThreadPatch, *, live: bool = False) -> ThreadInfo:
        """Change metadata; raises ThreadNotFound.

        Args:
            thread_id: of which thread.
            patch: what changes.
            live: whether this process writes the thread, so that the patch says what its log says.
        """
        if not live or self._row(thread_id, live=True) is None:
            self.find(thread_id)
        self._learn_marks()
        if patch.name is not msgspec.UNSET:
            self._names.put(thread_id, patch.name)
        with self._index.writing():
            row = self._index.get(thread_id)
            if row is None:
                raise ThreadNotFound(thread_id)
            info = apply_patch(row, patch)
            # Its file's time and first words count, so that the index can be made anew.
            info.updated_at, info.preview = row.updated_at, row.preview or info.preview
            self._marks.keep(row, info, logged=live)
            self._index.put(info)
        return self._with_default(info)

    def archive(self, thread_id: str) -> None:
        """Move the thread's files to the archive; nothing is moved when one is in the way."""
        if self.find(thread_id).archived:
            raise ThreadNotFound(thread_id)
        paths = self._paths(thread_id, archived=False)
        self._move(thread_id, paths, lambda path: self._home / ARCHIVED / path.name)

    def unarchive(self, thread_id: str) -> ThreadInfo:
        """Move the files back to the folder of their date, which counts as an update."""
        try:
            archived = self.find(thread_id).archived
        except ThreadNotFound:
            archived = False
        if not archived:
            raise ThreadNotFound(thread_id, archived=True)
        moved = self._move(thread_id, self._paths(thread_id, archived=True), self._dated)
        for path in moved:
            os.utime(path)
        return self.find(thread_id)

    def delete(self, thread_id: str) -> None:
        """Remove a thread's files and all that is known of it; see `ThreadStore.delete`."""
        self.find(thread_id)
        self._sync()  # a fork may have come since
        for fork in self._index.forks_of(thread_id):
            base = history_base(head_of(Path(fork.path or "")))
            if base is not None and base.thread_id == thread_id:
                raise WriterConflict(
                    f"cannot delete thread {thread_id}: forked history still references it; "
                    f"delete thread {fork.thread_id} first"
                )
        paths = self._index.paths_of(thread_id)
        try:
            reach("engine.delete.beginning")
            for path in paths:
                Path(self._full(path)).unlink(missing_ok=True)
            reach("engine.delete.removed")
        except OSError as error:
            raise StorageFailed(f"cannot delete thread {thread_id}: {error.strerror}") from error
        finally:
            self._drop([path for path in paths if not os.path.exists(self._full(path))])
        self._names.remove(thread_id)
        self._marks.remove(thread_id)
        with self._index.writing():
            self._index.unlink(thread_id)

    def link(self, parent_id: str, child_id: str) -> None:
        """Remember that a thread spawned another."""
        self._learn_marks()
        self._marks.put(msgspec.structs.replace(self._marks.get(child_id), parent_id=parent_id))
        with self._index.writing():
            self._index.link(parent_id, child_id)

    def descendants(self, thread_id: str) -> list[str]:
        """All threads below this one, level by level."""
        if not self._exists():
            return []
        self._sync()
        return levels(thread_id, self._index.children)

    def refresh(self) -> None:
        """Make the index know every file as it is now."""
        self._sync()
        self._sweep()

    def paths_of(self, thread_id: str) -> list[Path]:
        """All files that are known to hold parts of a thread."""
        return [self._home / path for path in self._index.paths_of(thread_id)]

    def close(self) -> None:
        """Release the index; idempotent."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _index(self) -> "Index":
        if self._opened is None:
            # Loads SQLite, which a process without stored threads never needs.
            from treadle.engine.store.local.index import Index

            self._opened = Index(self._home)
            self._files.update(self._opened.files())
        return self._opened

    def _exists(self) -> bool:
        """Whether there may be threads; a home without any gets no index either."""
        if self._opened is not None:
            return True
        return any((self._home / base).is_dir() for base in (SESSIONS, ARCHIVED))

    def fill(self) -> bool:
        """Read some of the files that are not in the index yet; whether there are more."""
        if not self._exists():
            return False
        self._notice()
        self._read_all(sorted(self._waiting)[:_BATCH])
        return bool(self._waiting)

    def _sync(self) -> None:
        """Make the index know every file there is, and none that is not."""
        if not self._exists():
            return
        self._notice()
        self._read_all(sorted(self._waiting))
        self._read_all([path for path in self._index.unsaid() if self._stale(path)])

    def _notice(self) -> None:
        """Learn which files came and went, and what is set beside them."""
        index = self._index
        added, removed = self._watch.changes()
        if self._first:
            # The index remembers files of earlier processes: only differences are work.
            self._first = False
            removed = self._files.keys() - added
            added -= self._files.keys()
        self._waiting |= added
        if removed:
            self._waiting -= removed
            self._drop(removed)
        names = self._names.changed()
        if names:
            with index.writing():
                index.rename(names)
        self._learn_marks()

    def _learn_marks(self) -> None:
        changed = self._marks.changed()
        if not changed:
            return
        with self._index.writing():
            for thread_id, marks in changed.items():
                if marks.parent_id is not None:
                    self._index.link(marks.parent_id, thread_id)
                row = self._index.get(thread_id)
                if row is not None:
                    self._marks.apply(row)
                    self._index.put(row)

    def _drop(self, paths: Iterable[str]) -> None:
        gone = list(paths)
        threads = {self._files[path].thread_id for path in gone if path in self._files}
        for path in gone:
            self._files.pop(path, None)
        with self._index.writing():
            self._index.drop_files(gone)
        # A thread of several files lives on in those that are left.
        for thread_id in threads - {None}:
            left = self._index.paths_of(str(thread_id))
            if left and self._index.get(str(thread_id)) is None:
                self._read_all(left)

    def _read_all(self, paths: list[str]) -> None:
        if len(paths) < _SHARED:
            self._read(paths)
            return
        for start in range(0, len(paths), _MANY):
            batch = paths[start : start + _MANY]
            with self._turns.turn():
                known = self._index.files_among(batch) if self._index.changed() else {}
                self._files.update(known)
                self._waiting.difference_update(known)
                self._read([path for path in batch if path not in known or self._stale(path)])

    def _read(self, paths: list[str]) -> None:
        if paths:
            self._intake.read(self._index, paths)
            self._waiting.difference_update(paths)

    def _row(self, thread_id: str, *, live: bool = False) -> ThreadInfo | None:
        """The row, true to its file as it is now; None when either is missing.

        Of a thread that this process writes (`live`) patches tell all but the time of its file.
        """
        if not self._exists():
            return None
        info = self._index.get(thread_id)
        if info is not None and live and info.preview and self._touched(info):
            return info
        if info is None or self._still_true([info]):
            return info
        return self._index.get(thread_id)

    def _touched(self, info: ThreadInfo) -> bool:
        """Follow the time of a row's file; False when it is not there."""
        path = self._index.relative(info.path or "")
        try:
            stat = os.stat(self._full(path))
        except OSError:
            return False
        facts = FileFacts(stat.st_mtime_ns, stat.st_size, info.thread_id)
        if self._files.get(path) != facts:
            # In memory alone: the patch that says what was written may be lost with this process,
            # and then the next one has to read the file.
            self._files[path] = facts
            info.updated_at = stat.st_mtime_ns / 1e9
            with self._index.writing():
                self._index.put(info)
        return True

    def _still_true(self, rows: list[ThreadInfo]) -> bool:
        stale: list[str] = []
        wrong: list[str] = []
        for row in rows:
            path = self._index.relative(row.path or "")
            known = self._files.get(path)
            if not _matches(row.path or "", known):
                stale.append(path)
            if known is not None and known.thread_id != row.thread_id:
                wrong.append(row.thread_id)
        if wrong:
            self._correct(wrong)
        if not stale:
            return not wrong
        self._drop([path for path in stale if not os.path.exists(self._full(path))])
        self._read_all([path for path in stale if os.path.exists(self._full(path))])
        return False

    def _correct(self, thread_ids: list[str]) -> None:
        """Rows that point at another thread's file: read again what may be theirs."""
        with self._index.writing():
            self._index.drop_threads(thread_ids)
        for thread_id in thread_ids:
            self._read_all(self._index.paths_of(thread_id))

    def _stale(self, path: str) -> bool:
        return not _matches(self._full(path), self._files.get(path))

    def _sweep(self) -> None:
        """Notice files that other programs appended to; their order in lists depends on it."""
        began = self._clock.monotonic()
        if began < self._next_sweep:
            return
        self._read_all([path for path in list(self._files) if self._stale(path)])
        spent = self._clock.monotonic() - began
        self._next_sweep = began + max(_SWEEP_SECONDS, spent * _SWEEP_SHARE)

    def _full(self, path: str) -> str:
        return f"{self._home}/{path}"

    def _with_default(self, info: ThreadInfo) -> ThreadInfo:
        if not info.created.model_provider:
            info.created.model_provider = self._default_provider
        return info

    def _explain(self, thread_id: str) -> None:
        """Tell a file that is there and broken from one that is not there."""
        for path in self._files:
            parts = parse_name(path.rpartition("/")[2])
            if parts is None or parts.thread_id != thread_id:
                continue
            full = self._home / path
            if full.exists():
                what = self._fault(path)
                raise StorageFailed(
                    f"failed to read session metadata {full}: rollout at {full} {what}"
                )

    def _fault(self, path: str) -> str:
        if self._files[path].size == 0:
            return "is empty"
        return "holds another thread" if self._files[path].thread_id else "has no readable head"

    def _paths(self, thread_id: str, *, archived: bool) -> list[Path]:
        known = self._index.paths_of(thread_id)
        return [self._home / path for path in known if is_archived(path) == archived]

    def _dated(self, path: Path) -> Path:
        target = dated_path(self._home, path.name)
        if target is None:
            raise InvalidQuery(f"rollout path {path} tells no date to file it under; rename it")
        return target

    def _move(
        self, thread_id: str, paths: list[Path], target_of: Callable[[Path], Path]
    ) -> list[Path]:
        moves = [(path, target_of(path)) for path in paths]
        move_all(thread_id, moves)
        self._follow(thread_id, moves)
        return [target for _, target in moves]

    def _follow(self, thread_id: str, moves: list[tuple[Path, Path]]) -> None:
        """Keep the row, with all that patches changed, under the new path."""
        index = self._index
        with index.writing():
            row = index.get(thread_id)
            for path, target in moves:
                old, new = index.relative(str(path)), index.relative(str(target))
                facts = self._files.pop(old, None)
                index.drop_files([old])
                if facts is not None:
                    self._files[new] = facts
                    index.put_files({new: facts})
                if row is not None and row.path == str(path):
                    row.path, row.archived = str(target), is_archived(new)
            if row is not None:
                index.put(row)


def _matches(full: str, known: FileFacts | None) -> bool:
    """Whether a file is as it was when it was read."""
    try:
        stat = os.stat(full)
    except OSError:
        return False
    return known is not None and stat.st_mtime_ns == known.mtime_ns and stat.st_size == known.size
