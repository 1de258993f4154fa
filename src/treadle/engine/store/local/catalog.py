"""Which threads a home holds: metadata of its rollout files, by id and as lists."""

import os
from pathlib import Path

import msgspec

from treadle.engine.store.listing import page_of
from treadle.engine.store.local.head_scan import scan_head
from treadle.engine.store.local.rollout_files import (
    ARCHIVED,
    dated_path,
    find_by_head,
    find_by_name,
    walk,
)
from treadle.engine.store.metadata import apply_patch, fresh_info
from treadle.engine.store.thread_store import (
    StorageFailed,
    ThreadInfo,
    ThreadNotFound,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
    Unsupported,
    WriterConflict,
)
from treadle.kit.clock import Clock


class Catalog:
    """Metadata of a home's threads. Used from one thread at a time."""

    def __init__(self, home: Path, clock: Clock, default_provider: str) -> None:
        self._home = home
        self._clock = clock
        self._default_provider = default_provider
        self._patches: dict[str, ThreadPatch] = {}

    def find(self, thread_id: str) -> ThreadInfo:
        """Metadata of one thread; raises ThreadNotFound."""
        paths = find_by_name(self._home, thread_id) or find_by_head(self._home, thread_id)
        active = [path for path in paths if path.parent.name != ARCHIVED] or paths
        info = self._info(active[-1]) if active else None
        if info is None:
            raise ThreadNotFound(thread_id)
        return info

    def page(self, query: ThreadQuery) -> ThreadPage:
        """One page of the list; raises InvalidQuery."""
        infos: dict[str, ThreadInfo] = {}
        for path in walk(self._home):
            info = self._info(path)
            if info is not None:
                infos[info.thread_id] = info
        return page_of(infos.values(), query)

    def update(self, thread_id: str, patch: ThreadPatch) -> ThreadInfo:
        """Change metadata; raises ThreadNotFound."""
        info = apply_patch(self.find(thread_id), patch)
        patch = msgspec.structs.replace(patch, recency_at=info.recency_at)
        known = self._patches.setdefault(thread_id, ThreadPatch())
        for name in ThreadPatch.__struct_fields__:
            if getattr(patch, name) is not msgspec.UNSET:
                setattr(known, name, getattr(patch, name))
        return info

    def archive(self, thread_id: str) -> None:
        """Move the files to the archive; nothing is moved when one is in the way."""
        paths = [
            path for path in find_by_name(self._home, thread_id) if path.parent.name != ARCHIVED
        ]
        if not paths:
            raise ThreadNotFound(thread_id)
        self._move(paths, [self._home / ARCHIVED / path.name for path in paths])

    def unarchive(self, thread_id: str) -> ThreadInfo:
        """Move the files back to the folder of their date."""
        paths = [
            path for path in find_by_name(self._home, thread_id) if path.parent.name == ARCHIVED
        ]
        if not paths:
            raise ThreadNotFound(thread_id, archived=True)
        targets: list[Path] = []
        for path in paths:
            target = dated_path(self._home, path.name)
            if target is None:
                raise StorageFailed(f"rollout path {path} tells no date")
            targets.append(target)
        self._move(paths, targets)
        for target in targets:
            os.utime(target)
        return self.find(thread_id)

    def close(self) -> None:
        """Release everything."""

    def _move(self, paths: list[Path], targets: list[Path]) -> None:
        for target in targets:
            if os.path.lexists(target):
                raise WriterConflict(f"{target} is in the way; move it and try again")
        for path, target in zip(paths, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.rename(target)

    def _info(self, path: Path) -> ThreadInfo | None:
        try:
            head = scan_head(path)
            stat = path.stat()
        except (StorageFailed, Unsupported, OSError):
            return None
        if head is None:
            return None
        info = fresh_info(head.created, stat.st_mtime, str(path))
        info.preview = head.preview
        info.model, info.effort = head.model, head.effort
        info.updated_at = info.recency_at = stat.st_mtime
        info.archived = path.parent.name == ARCHIVED
        if not head.created.model_provider:
            info.created.model_provider = self._default_provider
        patch = self._patches.get(info.thread_id)
        return apply_patch(info, patch) if patch is not None else info
