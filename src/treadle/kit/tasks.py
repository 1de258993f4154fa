"""Background tasks that have a name, an owner and an end.

A `TaskScope` belongs to one object (a connection, a thread, a server). What it starts it also
ends: `close` cancels what still runs and waits for it, within a deadline. A task that fails is
reported to the scope's owner and does not take its siblings down; where siblings must fall
together, use `asyncio.TaskGroup` directly.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
OnFailure = Callable[[str, BaseException], None]

GIVING_WAY_SECONDS = 0.05
"""How long work that nobody waits for lets the rest go first."""


async def give_way() -> None:
    """Let what is under way be done first, such as the answer that made us think of this.

    For background work that starts a process: every thread of ours stands still until that runs
    (measured: 10 to 25 ms each in a server that has just read a long log).
    """
    await asyncio.sleep(GIVING_WAY_SECONDS)


def _log_failure(name: str, error: BaseException) -> None:
    logger.error("task %s failed", name, exc_info=error)


class TaskScope:
    """The tasks of one owner."""

    def __init__(self, owner: str, on_failure: OnFailure = _log_failure) -> None:
        """Name the owner for logs; `on_failure` hears of each task that raised."""
        self._owner = owner
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run `coro` as a task of this scope.

        Raises:
            RuntimeError: the scope is closed; the coroutine is closed unrun.
        """
        if self._closed:
            coro.close()
            raise RuntimeError(f"{self._owner} is closed; cannot start {name}")
        task = asyncio.get_running_loop().create_task(coro, name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._on_failure(task.get_name(), error)

    def __len__(self) -> int:
        """How many tasks are still running."""
        return len(self._tasks)

    async def join(self, seconds: float) -> bool:
        """Wait until all tasks of the scope ended by themselves; False when time ran out first."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._tasks:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.wait(tuple(self._tasks), timeout=left)
        return True

    async def close(self, seconds: float = 5.0) -> bool:
        """Cancel what runs and wait at most `seconds`; True when nothing is left.

        Idempotent. A task calling this on its own scope is left out, or it would wait for itself.
        """
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if not tasks:
            return True
        _, pending = await asyncio.wait(tasks, timeout=seconds)
        for task in pending:
            logger.warning("task %s did not end within %.1f s", task.get_name(), seconds)
        return not pending
