"""The short way for appends that only add to the log: one statement for many runs.

Most appends hold events that move no state, under a lease that is what the runner believes. One
statement checks that under the locks of the heads, moves them and adds the events; what arrives
meanwhile shares the next one. Whatever does not fit, and whatever fails, goes the long way: the
shared logic finds out why and answers with the right fault, and a batch that was stored although
its answer was lost is recognised there by its producer seqs. Lives on the event loop.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from treadle.control.db.batch import plain_texts
from treadle.control.db.leases import NEXT_FLUSH_MS
from treadle.control.db.postgres_link import PAUSE_SECONDS, connect_durably, errors, positional
from treadle.control.faults import DatabaseUnusable, Overloaded
from treadle.control.records import AppendAnswer, AppendRequest
from treadle.kit.fault_points import reach
from treadle.kit.tasks import TaskScope

logger = logging.getLogger(__name__)

MAX_WAITING = 1024
# What one statement takes at most; a single larger batch goes alone.
MAX_RUNS = 64
MAX_EVENTS = 400
# While one statement is at the server the next one is put together.
LINES = 2
CLOSE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Batch:
    """One append that waits for its answer; None says that it must go the long way."""

    run_id: str
    token_sha256: bytes
    request: AppendRequest
    texts: list[str]
    answer: asyncio.Future[AppendAnswer | None]


class AppendLane:
    """Appends through connections of their own."""

    def __init__(
        self,
        url: str,
        statements: dict[str, str],
        on_commit: Callable[[frozenset[str]], None],
    ) -> None:
        """Start; `on_commit` hears which runs got events. `close` ends it."""
        self._statement = positional(statements["append_plainly"])
        self._on_commit = on_commit
        self._waiting: deque[_Batch] = deque()
        self._at_work: set[str] = set()
        self._something = asyncio.Event()
        self._closing = False
        self._scope = TaskScope("append lane")
        self._lines = [_Line(url) for _ in range(LINES)]
        for number, line in enumerate(self._lines):
            self._scope.start(self._serve(line), f"line-{number}")

    async def append(self, run_id: str, token: str, request: AppendRequest) -> AppendAnswer | None:
        """Append and renew the lease; None when it must go the long way.

        Raises:
            Overloaded: too much is waiting.
        """
        texts = plain_texts(request.events)
        if texts is None or self._closing or not _storable(run_id, request, texts):
            return None
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded("Too many writes are waiting; send the request again later.")
        answer = asyncio.get_running_loop().create_future()
        token_sha256 = hashlib.sha256(token.encode()).digest()
        self._waiting.append(_Batch(run_id, token_sha256, request, texts, answer))
        self._something.set()
        return await answer

    async def close(self) -> None:
        """Finish what waits, then close the connections. Idempotent."""
        self._closing = True
        self._something.set()
        await self._scope.join(CLOSE_SECONDS)
        await self._scope.close(1.0)
        for batch in self._waiting:
            if not batch.answer.done():
                batch.answer.set_result(None)
        for line in self._lines:
            line.drop()

    async def _serve(self, line: "_Line") -> None:
        while self._waiting or not self._closing:
            group = self._take()
            if not group:
                self._something.clear()
                await self._something.wait()
                continue
            answers: dict[str, AppendAnswer] = {}
            try:
                answers = await self._send(line, group)
            except Exception:  # a line that ended would leave all later callers waiting
                logger.exception("an append failed; it goes the long way")
            finally:
                self._at_work.difference_update(batch.run_id for batch in group)
                self._something.set()
                for batch in group:
                    if not batch.answer.done():
                        batch.answer.set_result(answers.get(batch.run_id))
            if answers:
                self._on_commit(frozenset(answers))

    def _take(self) -> list[_Batch]:
        """The oldest batches that fit into one statement, of each run only the first."""
        group: list[_Batch] = []
        later: list[_Batch] = []
        events = 0
        while self._waiting and len(group) < MAX_RUNS:
            size = len(self._waiting[0].texts)
            if group and events + size > MAX_EVENTS:
                break
            batch = self._waiting.popleft()
            if batch.run_id in self._at_work:
                later.append(batch)
                continue
            self._at_work.add(batch.run_id)
            group.append(batch)
            events += size
        self._waiting.extendleft(reversed(later))
        return group

    async def _send(self, line: "_Line", group: list[_Batch]) -> dict[str, AppendAnswer]:
        """The answers by run id; of none that did not fit, and of none at all after a failure."""
        sql, names = self._statement
        values = _values_of(group)
        reach("control.append.sending")
        rows = await line.fetch(sql, [values[name] for name in names])
        reach("control.append.committed")
        return {row["run_id"]: _answer_of(row) for row in rows}


class _Line:
    """One connection, made again when it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None
        self._failed_at: float | None = None

    async def fetch(self, sql: str, values: list[Any]) -> list[Any]:
        """The rows of a statement; none when it failed, whether it had an effect or not."""
        if not await self._connected():
            return []
        try:
            return await self._connection.fetch(sql, *values)
        except errors() as error:
            logger.info("an append failed; it goes the long way", exc_info=error)
            if self._connection.is_closed() or isinstance(error, TimeoutError):
                self.drop()
            return []

    def drop(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> bool:
        """Whether there is a connection; after a failure none is tried for a while."""
        if self._connection is not None and not self._connection.is_closed():
            return True
        now = asyncio.get_running_loop().time()
        if self._failed_at is not None and now < self._failed_at + PAUSE_SECONDS:
            return False
        try:
            self._connection = await connect_durably(self._url)
        except DatabaseUnusable as error:
            logger.info("no connection for appends", exc_info=error)
            self._failed_at = asyncio.get_running_loop().time()
            return False
        self._failed_at = None
        return True


def _values_of(group: list[_Batch]) -> dict[str, list[Any]]:
    """The statement's arrays: some with a place per run, some with a place per event."""
    events = [(batch.run_id, event) for batch in group for event in batch.request.events]
    counts = [len(batch.texts) for batch in group]
    return {
        "runs": [batch.run_id for batch in group],
        "epochs": [batch.request.epoch for batch in group],
        "tokens": [batch.token_sha256 for batch in group],
        "firsts": [batch.request.first_producer_seq for batch in group],
        "counts": counts,
        "skips": [sum(counts[:place]) for place in range(len(counts))],
        "batches": [run_id for run_id, _ in events],
        "types": [event.type for _, event in events],
        "command_ids": [event.command_id for _, event in events],
        "ats": [event.at for _, event in events],
        "payloads": [text for batch in group for text in batch.texts],
    }


def _answer_of(row: Any) -> AppendAnswer:
    return AppendAnswer(
        acked_producer_seq=row["producer_seq"],
        last_seq=row["last_seq"],
        cmd_last=row["cmd_last"],
        cancel=bool(row["cancel"]),
        remaining_ms=row["lease_ms"],
        next_flush_ms=NEXT_FLUSH_MS,
        duplicate=False,
    )


def _storable(run_id: str, request: AppendRequest, texts: list[str]) -> bool:
    """Whether PostgreSQL knows a text for all of it; the long way says what it has none for."""
    return not (
        "\0" in run_id
        or any("\0" in text for text in texts)
        or any("\0" in f"{e.type}{e.command_id}{e.at}" for e in request.events)
    )
