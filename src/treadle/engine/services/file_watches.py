"""Watches on paths: one connection's, told of changes until they are stopped.

A watch looks again a few times a second and compares: works on every file system, needs no handle
that a replaced file would take with it, and a path may come to be later. A folder is watched for
its direct children. Knows nothing of the protocol.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Mapping

from treadle.engine.services.errors import Refused
from treadle.kit.tasks import TaskScope

INTERVAL_SECONDS = 0.15
"""Time between looks; a look that takes long makes the next one wait for longer."""
MAX_CHILDREN = 5000
"""Children of a folder that are looked at; in a larger one changes of the others go unseen."""
MAX_WATCHES = 256

OnChange = Callable[[str, list[str]], None]
Mark = tuple[int, ...]


class FileWatches:
    """The watches of one connection."""

    def __init__(self, on_change: OnChange) -> None:
        """Call `on_change(watch id, changed paths)` on the event loop."""
        self._on_change = on_change
        self._scope = TaskScope("file watches")
        self._running: dict[str, asyncio.Task[None]] = {}

    async def watch(self, path: str, watch_id: str) -> str:
        """Start a watch; the normalised path.

        Raises:
            Refused: the id is in use, or there are too many watches.
        """
        if watch_id in self._running:
            raise Refused(f"watchId already exists: {watch_id}")
        if len(self._running) >= MAX_WATCHES:
            raise Refused(f"a connection may have {MAX_WATCHES} watches; end one first")
        path = os.path.normpath(path)  # noqa: ASYNC240 - words alone, no disk
        # Seen before the answer, so that no later change is missed.
        before = await asyncio.to_thread(look, path)
        self._running[watch_id] = self._scope.start(self._follow(path, watch_id, before), watch_id)
        return path

    async def unwatch(self, watch_id: str) -> None:
        """End a watch; nothing is told of it once this returns. Unknown ids are forgiven."""
        task = self._running.pop(watch_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """End all watches."""
        self._running.clear()
        await self._scope.close(1.0)

    async def _follow(self, path: str, watch_id: str, before: Mapping[str, Mark]) -> None:
        loop = asyncio.get_running_loop()
        pause = INTERVAL_SECONDS
        while True:
            await asyncio.sleep(pause)
            started = loop.time()
            now = await asyncio.to_thread(look, path)
            pause = max(INTERVAL_SECONDS, 5 * (loop.time() - started))
            changed = sorted(
                name for name in now.keys() | before.keys() if now.get(name) != before.get(name)
            )
            before = now
            if changed:
                self._on_change(watch_id, changed)


def look(path: str) -> dict[str, Mark]:
    """A mark for `path` and, when it is a folder, for each child; equal marks mean no change."""
    try:
        found = os.stat(path)
    except OSError:
        return {}
    marks = {path: _mark(found)}
    if stat.S_ISDIR(found.st_mode):
        try:
            with os.scandir(path) as entries:
                for entry, _count in zip(entries, range(MAX_CHILDREN), strict=False):
                    try:
                        marks[entry.path] = _mark(entry.stat(follow_symlinks=False))
                    except OSError:
                        continue
        except OSError:
            return marks
    return marks


def _mark(found: os.stat_result) -> Mark:
    if stat.S_ISDIR(found.st_mode):  # its times tell of its children, which speak for themselves
        return (found.st_ino,)
    # ctime tells writes that keep size and set the modification time back.
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
