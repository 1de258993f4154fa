"""What happened in a thread, told again from its log."""

from treadle.domain import history
from treadle.domain.event_log import STRIDE, Recorded, count_events, recorded_events
from treadle.domain.turns import Turn
from treadle.engine.services.threads import Threads


class PastEvents:
    """Reads kept events of stored and loaded threads; loads none."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def turns(self, thread_id: str) -> tuple[list[Turn], int]:
        """The turns of a thread's log, and the number of its last event; raises ThreadNotFound."""
        records = await self._threads.records(thread_id)
        return history.turns(records), count_events(records) * STRIDE

    async def after(self, thread_id: str, seq: int) -> tuple[list[Recorded], int]:
        """Kept events with numbers above `seq`, and the number of the log's last one.

        Raises:
            ThreadNotFound: nothing is stored under this id.
        """
        records = await self._threads.records(thread_id)
        newer = [told for told in recorded_events(thread_id, records) if told.seq > seq]
        return newer, count_events(records) * STRIDE
