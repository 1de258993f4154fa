"""Cleanup that may not be cut short, and may not last for ever either."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")


async def finish(coro: Coroutine[Any, Any, T], seconds: float, name: str) -> T | None:
    """Run `coro` to its end even if the caller is cancelled, for at most `seconds`.

    A cancel that arrives meanwhile is re-raised afterwards. Returns None when time ran out, with a
    warning in the log, since cleanup that failed to end is nothing the caller can mend.
    """
    task = asyncio.get_running_loop().create_task(coro, name=name)
    cancelled: asyncio.CancelledError | None = None
    deadline = asyncio.get_running_loop().time() + seconds
    while not task.done():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            task.cancel()
            logger.warning("%s did not end within %.1f s", name, seconds)
            break
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if task.done() and not task.cancelled():
            task.exception()  # seen: the cancel outranks it
        raise cancelled
    if task.done() and not task.cancelled():
        return task.result()
    return None
