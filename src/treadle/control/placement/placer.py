"""What a manager knows of a way to place runners: that it refuses runs, and that it runs.

A placer sees to it that each run which asks for its placement has a runner, however that is
started. Runners claim as any other does; a placer grants nothing.
"""

from collections.abc import Callable
from typing import Protocol

from treadle.control.db.repository import Repository
from treadle.control.events import Bells
from treadle.control.records import Placement, RunSpec
from treadle.kit.clock import Clock


class Placer(Protocol):
    """Places the runners of runs with one placement."""

    @property
    def placement(self) -> Placement:
        """Which runs are its own."""
        ...

    def why_not(self, spec: RunSpec) -> str | None:
        """Why a run cannot be placed, and what to change; None when it can."""
        ...

    async def run(self) -> None:
        """Place runners until cancelled or the repository closes; whatever fails is repeated."""
        ...


MakePlacer = Callable[[Repository, Bells, Clock], Placer]
"""Makes the placer of a manager, once its database is open."""
