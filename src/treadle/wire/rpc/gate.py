"""Counts the requests being served and stops new ones when the door closes."""

import asyncio


class Gate:
    """Admits requests up to a bound, and lets shutdown wait for those admitted."""

    def __init__(self, bound: int) -> None:
        """Serve at most `bound` requests at once."""
        self._bound = bound
        self._count = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def count(self) -> int:
        """Requests admitted and not finished."""
        return self._count

    def enter(self) -> bool:
        """Admit one request; False when the bound is reached or the gate is closed."""
        if self._closed or self._count >= self._bound:
            return False
        self._count += 1
        self._empty.clear()
        return True

    def leave(self) -> None:
        """One admitted request is finished."""
        self._count -= 1
        if self._count == 0:
            self._empty.set()

    def close(self) -> None:
        """Admit nothing any more."""
        self._closed = True

    async def drained(self, seconds: float) -> bool:
        """Wait until no admitted request is left; False when time ran out first."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
