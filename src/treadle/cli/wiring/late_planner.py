"""A planner that is made when the first thread asks: tools and model clients load then.

Start-up matters: a client that only lists threads, or waits to be used, pays for neither.
"""

from collections.abc import Awaitable, Callable

from treadle.domain.policy import Settings
from treadle.engine.agent.agent_thread import ModelTraits
from treadle.engine.services.planning import Overrides, Planner, ThreadPlan
from treadle.kit.late import Late


class LatePlanner:
    """Hands over to the planner that `make` gives."""

    def __init__(self, make: Callable[[], tuple[Planner, Callable[[], Awaitable[None]]]]) -> None:
        """Call `make` once, at the first plan; it gives a planner and what closes its clients."""
        self._late = Late(make)

    def plan(self, overrides: Overrides, sealed: Settings | None) -> ThreadPlan:
        """See `Planner.plan`."""
        return self._late()[0].plan(overrides, sealed)

    def traits(self, settings: Settings) -> ModelTraits:
        """See `Planner.traits`."""
        return self._late()[0].traits(settings)

    async def close(self) -> None:
        """Close what the planner opened, if it was ever made."""
        made = self._late.made
        if made is not None:
            await made[1]()
