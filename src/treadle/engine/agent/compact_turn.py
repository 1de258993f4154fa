"""The turn that compacts the context because somebody asked for it."""

from treadle.engine.agent.compactor import Compactor
from treadle.engine.agent.turn_life import Stop
from treadle.engine.agent.turn_parts import TurnParts


class CompactTurn:
    """The work of a turn that only compacts."""

    def __init__(self, parts: TurnParts) -> None:
        self._compactor = Compactor(parts.thread, parts.state.turn_id, parts.report)

    def prepare(self) -> None:
        """Nothing to record: the compaction's own records say it all."""

    def open(self) -> None:
        """No input."""

    async def carry_out(self) -> None:
        """Compact; the context stays as it was unless that succeeds."""
        await self._compactor.compact()

    async def stop(self, why: Stop) -> None:
        """Nothing to undo: the context was not touched."""
        del why
