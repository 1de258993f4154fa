"""Whose run it is, for the guard of each route: looked up once and remembered.

A run's tenant and project never change, so what is remembered cannot be wrong; of a run that was
forgotten meanwhile, the handler behind the guard finds out by itself. That a run is missing is not
remembered: it may come.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from treadle.control.access import Scope

REMEMBERED = 10_000

Find = Callable[[str], Awaitable[Scope]]


class RunScopes:
    """Scopes of the runs that were asked for last."""

    def __init__(self, find: Find, remembered: int = REMEMBERED) -> None:
        """`find` tells whose run it is, or raises NotFound."""
        self._find = find
        self._remembered = remembered
        self._known: OrderedDict[str, Scope] = OrderedDict()

    async def of(self, run_id: str) -> Scope:
        """Tenant and project of a run; raises NotFound."""
        known = self._known.get(run_id)
        if known is None:
            known = await self._find(run_id)
            if len(self._known) >= self._remembered:
                self._known.popitem(last=False)
        self._known[run_id] = known
        self._known.move_to_end(run_id)
        return known
