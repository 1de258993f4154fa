"""Which rollout files came and went, without looking at each of them.

A folder's time changes when a name appears in it or goes, so one stat per folder tells which
folders to read again. Says nothing about what is in the files.
"""

import os
from pathlib import Path

import msgspec

from treadle.engine.store.local.rollout_files import ARCHIVED, SESSIONS, is_rollout
from treadle.kit.clock import Clock

_RACY_SECONDS = 0.1
"""A folder that changed this recently may change again under the same time: read it again."""


class FileFacts(msgspec.Struct, frozen=True):
    """A file as it was when it was last read; `thread_id` is None when it holds no thread."""

    mtime_ns: int
    size: int
    thread_id: str | None


class _Folder(msgspec.Struct):
    path: str
    mtime_ns: int
    settled: bool
    names: frozenset[str]
    folders: tuple[str, ...]


class FolderWatch:
    """The rollout files of a home; paths are relative to it."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._home = str(home)
        self._clock = clock
        self._known: dict[str, _Folder] = {}
        self._roots = (SESSIONS, ARCHIVED)

    def changes(self) -> tuple[set[str], set[str]]:
        """Files that appeared and files that went since the last call (the first: all appear)."""
        added: set[str] = set()
        removed: set[str] = set()
        if self._quiet():
            return added, removed
        seen: set[str] = set()
        todo = [*self._roots]
        while todo:
            folder = todo.pop()
            before = self._known.get(folder)
            now = self._look(folder, before)
            if now is None:
                continue
            seen.add(folder)
            self._known[folder] = now
            todo += [f"{folder}/{name}" for name in now.folders]
            if now is not before:
                old = before.names if before is not None else frozenset[str]()
                added.update(f"{folder}/{name}" for name in now.names - old)
                removed.update(f"{folder}/{name}" for name in old - now.names)
        for folder in self._known.keys() - seen:
            gone = self._known.pop(folder)
            removed.update(f"{folder}/{name}" for name in gone.names)
        return added, removed

    def _quiet(self) -> bool:
        """Whether no folder changed, found in the fewest steps: most lists meet nothing new."""
        stat = os.stat
        try:
            for folder in self._known.values():
                if not folder.settled or stat(folder.path).st_mtime_ns != folder.mtime_ns:
                    return False
        except OSError:
            return False
        unseen = [root for root in self._roots if root not in self._known]
        return not any(os.path.exists(f"{self._home}/{root}") for root in unseen)

    def _look(self, folder: str, before: _Folder | None) -> _Folder | None:
        path = f"{self._home}/{folder}"
        try:
            mtime_ns = os.stat(path).st_mtime_ns
            if before is not None and before.settled and before.mtime_ns == mtime_ns:
                return before
            names: set[str] = set()
            folders: list[str] = []
            with os.scandir(path) as entries:
                for entry in entries:
                    if is_rollout(entry.name):
                        names.add(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
        except OSError:
            return None
        settled = self._clock.now() - mtime_ns / 1e9 > _RACY_SECONDS
        return _Folder(path, mtime_ns, settled, frozenset(names), tuple(folders))
