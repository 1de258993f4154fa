"""A thread that owns one database connection and runs work on it, in groups.

What arrives while a commit is in flight shares the next transaction, each piece under its own
savepoint: one fsync serves many requests, and a piece that fails leaves no trace in the others. An
answer is given only after the commit. Knows nothing of what the work does.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from treadle.control.db.transaction import NO_NEEDS, Needs, Transaction
from treadle.control.faults import ControlFault, DatabaseUnusable, Overloaded, Stopping
from treadle.kit.fault_points import reach

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Transaction], Any]
Piece = tuple[Work, Needs]

MAX_WAITING = 1024
MAX_GROUP = 64
GATHER_SECONDS = 0.001
"""What a writer waits at most for those whom it has just answered, while others wait already:
else two halves of its callers would take turns, each with a commit of its own."""


class Opened(Protocol):
    """A connection with what the thread needs of it; used by that thread alone."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the database library raises."""
        ...

    def begin(self, needs: list[Needs]) -> Transaction:
        """Open a transaction that locks what its pieces need, which is given per piece."""
        ...

    def flush(self, tx: Transaction) -> None:
        """Send what the transaction still keeps back."""
        ...

    def commit(self) -> None:
        """Make it durable; when this fails, nobody knows whether it happened."""
        ...

    def abandon(self) -> None:
        """Leave the connection without an open transaction, whatever happened before."""
        ...

    def may_repeat(self, error: Exception) -> bool:
        """Whether work that failed so before its commit may be run once more, each alone."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class DatabaseThread:
    """Runs work on its own connection, in order of arrival."""

    def __init__(
        self,
        name: str,
        opened: Opened,
        on_commit: Callable[[frozenset[str]], None],
        gather_seconds: float = 0.0,
    ) -> None:
        """Start the thread; `on_commit` is called on the event loop of the caller.

        With `gather_seconds` a group waits so long, at most, to become as large as there were
        callers at the end of the last one.
        """
        self._opened = opened
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Piece, asyncio.Future[Any]]] = deque()
        self._gather_seconds = gather_seconds
        self._wanted = 1
        self._condition = threading.Condition()
        self._closing = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many pieces of work wait."""
        return len(self._waiting)

    async def run(
        self, work: Callable[[Transaction], T | ControlFault], needs: Needs = NO_NEEDS
    ) -> T:
        """Run `work` in a transaction that has what it needs; returns once it is committed.

        A fault that `work` raises undoes what it did; one that it returns is raised after the
        commit. A caller that is cancelled does not stop the work.

        Raises:
            Overloaded: too much is waiting.
            Stopping: the thread is being closed.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        with self._condition:
            if self._closing:
                raise Stopping("The manager is stopping; send the request again.")
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded("Too many writes are waiting; send the request again later.")
            self._waiting.append(((work, needs), future))
            if len(self._waiting) >= self._wanted:
                self._condition.notify()
        result = await future
        if isinstance(result, ControlFault):
            raise result
        return result

    async def close(self) -> None:
        """Finish what waits, then close the connection."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        await self._ended.wait()
        self._thread.join()

    def _main(self) -> None:
        expected = 1
        while group := self._next_group(expected):
            outcomes, touched = self._run_group([piece for piece, _ in group])
            futures = [future for _, future in group]
            expected = min(len(group) + len(self._waiting), MAX_GROUP)
            self._post(_settle, futures, outcomes, touched, self._on_commit)
        self._opened.close()
        self._post(self._ended.set)

    def _next_group(self, expected: int) -> list[tuple[Piece, asyncio.Future[Any]]]:
        """What waits, once there is something; nothing when the thread is to end."""
        with self._condition:
            while not self._waiting and not self._closing:
                self._condition.wait()
            if len(self._waiting) < expected and self._gather_seconds and not self._closing:
                self._wanted = expected
                self._condition.wait(self._gather_seconds)
                self._wanted = 1
            count = min(len(self._waiting), MAX_GROUP)
            return [self._waiting.popleft() for _ in range(count)]

    def _post(self, call: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop was closed under us; nobody is left to be told
            logger.warning("answers of the database were lost: the event loop is closed")

    def _run_group(self, pieces: list[Piece]) -> tuple[list[Any], frozenset[str]]:
        """Run all in one transaction; an outcome per piece, exceptions as values.

        Where the database refuses the transaction before its commit, each piece gets one more
        chance by itself: what one of them did wrong, or a connection that was cut, must not be
        paid by the others.
        """
        try:
            return self._attempt(pieces)
        except _Refused as refused:
            if not refused.may_repeat:
                return [refused.fault] * len(pieces), frozenset()
        outcomes: list[Any] = []
        touched: frozenset[str] = frozenset()
        for piece in pieces:
            try:
                alone, more = self._attempt([piece])
            except _Refused as refused:
                alone, more = [refused.fault], frozenset[str]()
            outcomes += alone
            touched |= more
        return outcomes, touched

    def _attempt(self, pieces: list[Piece]) -> tuple[list[Any], frozenset[str]]:
        opened, committing = self._opened, False
        try:
            reach("control.db.beginning")
            tx = opened.begin([needs for _, needs in pieces])
            reach("control.db.begun")
            outcomes = [self._run_piece(tx, work) for work, _ in pieces]
            opened.flush(tx)
            reach("control.db.written")
            committing = True
            opened.commit()
            reach("control.db.committed")
        except Exception as error:  # whatever it is: a dead thread would leave all callers waiting
            may_repeat = not committing and opened.may_repeat(error)
            logger.log(
                logging.INFO if may_repeat else logging.ERROR, "transaction failed", exc_info=error
            )
            opened.abandon()
            raise _Refused(error, may_repeat) from error
        return outcomes, frozenset(tx.touched)

    def _run_piece(self, tx: Transaction, work: Work) -> Any:
        tx.begin_piece()
        try:
            outcome: Any = work(tx)
        except self._opened.errors:
            raise
        except Exception as error:  # noqa: BLE001 - handed to the caller, whoever that is
            tx.undo_piece()
            return _Raised(error)
        tx.keep_piece()
        return outcome


class _Refused(Exception):
    """The database refused a transaction."""

    def __init__(self, error: Exception, may_repeat: bool) -> None:
        self.may_repeat = may_repeat
        if isinstance(error, DatabaseUnusable):
            self.fault = error
            return
        self.fault = DatabaseUnusable("The database refused the write; see the manager's log.")
        self.fault.__cause__ = error


class _Raised:
    """An exception on its way to the caller."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _settle(
    futures: list[asyncio.Future[Any]],
    outcomes: list[Any],
    touched: frozenset[str],
    on_commit: Callable[[frozenset[str]], None],
) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, _Raised):
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome)
    if touched:
        on_commit(touched)
