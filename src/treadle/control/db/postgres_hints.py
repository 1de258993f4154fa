"""Tells other managers on the same database what changed here, and hears it from them.

Hints only: they shorten waits, nothing depends on them. They are sent after the commit, gathered;
behind them one query per second looks after what parked readers wait for. A connection that is
lost is made again.
"""

import asyncio
import logging
from typing import Any, Protocol

from treadle.control.db.postgres_link import connect, errors, positional
from treadle.control.db.repository import WORK_WAITING
from treadle.control.faults import DatabaseUnusable
from treadle.kit.mint import new_id
from treadle.kit.tasks import TaskScope

logger = logging.getLogger(__name__)

CHANNEL = "treadle_runs"
POLL_SECONDS = 1.0
GATHER_SECONDS = 0.002
RETRY_SECONDS = 1.0
# A payload has at most 8000 bytes; past that "everything" is said instead.
MAX_PAYLOAD = 7900
EVERYTHING = "*"
WORK = "-"


class Wakes(Protocol):
    """Who waits for changes of which run."""

    def ring(self, run_ids: frozenset[str]) -> None:
        """Wake whoever waits for one of these."""
        ...

    def watched(self) -> frozenset[str]:
        """What somebody waits for now."""
        ...


class Hints:
    """The link between the managers of one database; lives on the event loop."""

    def __init__(self, url: str, statements: dict[str, str], wakes: Wakes) -> None:
        """Start talking; `close` ends it."""
        self._url = url
        self._statements = statements
        self._wakes = wakes
        self._origin = new_id()
        self._changed: set[str] = set()
        self._something = asyncio.Event()
        self._seen: dict[str, tuple[int, ...]] = {}
        self._scope = TaskScope("database hints")
        self._scope.start(self._keep_talking(), "talk")

    def changed(self, run_ids: frozenset[str]) -> None:
        """Wake waiters here, and tell the others soon."""
        self._wakes.ring(run_ids)
        self._changed |= run_ids
        self._something.set()

    async def close(self) -> None:
        """Stop; what was not said yet is found by the others' polls."""
        await self._scope.close(2.0)

    async def _keep_talking(self) -> None:
        while True:
            try:
                await self._talk()
            except (DatabaseUnusable, *errors()) as error:
                logger.warning("hints between managers are interrupted: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _talk(self) -> None:
        connection = await connect(self._url)
        try:
            await connection.add_listener(CHANNEL, self._hear)
            # Whatever was said while nobody listened.
            self._wakes.ring(self._wakes.watched())
            loop = asyncio.get_running_loop()
            next_poll = loop.time() + POLL_SECONDS
            while True:
                try:
                    async with asyncio.timeout_at(next_poll):
                        await self._something.wait()
                except TimeoutError:
                    await self._poll(connection)
                    next_poll = loop.time() + POLL_SECONDS
                else:
                    await self._tell(connection)
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            connection.terminate()

    async def _tell(self, connection: Any) -> None:
        words = [run_id or WORK for run_id in self._changed]
        self._changed.clear()
        self._something.clear()
        payload = " ".join([self._origin, *words])
        if len(payload) > MAX_PAYLOAD:
            payload = f"{self._origin} {EVERYTHING}"
        await self._fetch(connection, "notify", payload)

    def _hear(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        del connection, pid, channel
        origin, *words = payload.split(" ")
        if origin == self._origin:
            return
        if EVERYTHING in words:
            self._wakes.ring(self._wakes.watched())
        else:
            self._wakes.ring(frozenset(WORK_WAITING if word == WORK else word for word in words))

    async def _poll(self, connection: Any) -> None:
        """Ring for what moved since the last look; what is watched anew rings once for nothing."""
        watched = self._wakes.watched()
        rung: set[str] = set()
        if WORK_WAITING in watched:
            (row,) = await self._fetch(connection, "work_waits")
            rung |= {WORK_WAITING} if row["waits"] else set()
        ids = [run_id for run_id in watched - {WORK_WAITING} if "\0" not in run_id]
        rows = await self._fetch(connection, "read_watched", ids) if ids else []
        now = {row["run_id"]: (row["last_seq"], row["cmd_last"], row["ended"]) for row in rows}
        rung |= {run_id for run_id, progress in now.items() if self._seen.get(run_id) != progress}
        self._seen = now
        self._wakes.ring(frozenset(rung))

    async def _fetch(self, connection: Any, name: str, *parameters: Any) -> list[Any]:
        text, _ = positional(self._statements[name])
        return await connection.fetch(text, *parameters)
