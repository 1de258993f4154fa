"""Group commit: one transaction for many, each with its own fate."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from treadle.control.db.transaction import Needs, Transaction
from treadle.control.db.writer import MAX_WAITING, DatabaseThread
from treadle.control.faults import DatabaseUnusable, NotFound, Overloaded, Stopping


class Opened:
    """A connection on a plain table, counting its commits."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return (sqlite3.Error,)

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("CREATE TABLE t (v)")
        self.connection.row_factory = sqlite3.Row
        self.begun = 0
        self.repeats = False

    def begin(self, needs: list[Needs]) -> Transaction:
        self.begun += 1
        self.connection.execute("BEGIN IMMEDIATE")
        statements = {
            "put": "INSERT INTO t VALUES (:v)",
            "all": "SELECT count(*) AS n FROM t",
            "limit": "PRAGMA max_page_count = 1",
        }
        return Transaction(self.connection, statements, lambda: 0)

    def flush(self, tx: Transaction) -> None:
        pass

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def abandon(self) -> None:
        self.connection.rollback()

    def may_repeat(self, error: Exception) -> bool:
        return self.repeats

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
async def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path / "t.db")


@pytest.fixture
async def thread(opened: Opened) -> AsyncIterator[DatabaseThread]:
    thread = DatabaseThread("test", opened, lambda _: None)
    yield thread
    await thread.close()


def put(value: object) -> Callable[[Transaction], None]:
    return lambda tx: tx.run("put", v=value)


def count(tx: Transaction) -> int:
    row = tx.one("all")
    assert row is not None
    return row["n"]


async def test_a_failing_piece_leaves_no_trace_and_its_neighbours_are_kept(
    thread: DatabaseThread, opened: Opened
) -> None:
    def raises(tx: Transaction) -> None:
        tx.run("put", v="raised")
        raise NotFound("run", "no")

    def returns(tx: Transaction) -> NotFound:
        tx.run("put", v="returned")
        return NotFound("run", "no")

    works: list[Callable[[Transaction], object]] = [put(1), raises, put(2), returns]
    outcomes = await asyncio.gather(*(thread.run(work) for work in works), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), NotFound, type(None), NotFound]
    assert await thread.run(count) == 3
    assert opened.begun <= 4


async def test_waiting_pieces_share_one_transaction(thread: DatabaseThread, opened: Opened) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(tx: Transaction) -> None:
        del tx
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)

    holding = asyncio.create_task(thread.run(hold))
    await entered.wait()
    waiting = [asyncio.create_task(thread.run(put(n))) for n in range(20)]
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(10):
        await asyncio.gather(holding, *waiting)
    assert opened.begun == 2


async def test_too_many_waiting_pieces_are_refused_not_queued(thread: DatabaseThread) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(tx: Transaction) -> None:
        del tx
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)

    holding = asyncio.create_task(thread.run(hold))
    await entered.wait()
    waiting = [asyncio.create_task(thread.run(put(n))) for n in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await thread.run(put("over"))
    go_on.set()
    async with asyncio.timeout(10):
        await asyncio.gather(holding, *waiting)
        assert await thread.run(count) == MAX_WAITING


async def test_a_full_disk_fails_the_write_acknowledges_nothing_and_the_thread_lives(
    thread: DatabaseThread,
) -> None:
    await thread.run(put("kept"))
    await thread.run(lambda tx: tx.run("limit"))
    with pytest.raises(DatabaseUnusable):
        await thread.run(put("x" * 100_000))
    assert await thread.run(count) == 1


async def test_a_piece_that_the_database_refuses_costs_its_neighbours_nothing(
    thread: DatabaseThread, opened: Opened
) -> None:
    opened.repeats = True
    bad: Callable[[Transaction], object] = lambda tx: tx.run("put", wrong=1)  # noqa: E731
    outcomes = await asyncio.gather(
        *(thread.run(work) for work in (put(1), bad, put(2))), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), DatabaseUnusable, type(None)]
    assert await thread.run(count) == 2


async def test_a_commit_that_fails_is_never_repeated(
    thread: DatabaseThread, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.repeats = True

    def commit() -> None:
        Opened.commit(opened)
        raise sqlite3.OperationalError("the answer was lost")

    monkeypatch.setattr(opened, "commit", commit)
    with pytest.raises(DatabaseUnusable):
        await thread.run(put(1))
    monkeypatch.undo()
    assert await thread.run(count) == 1


async def test_closing_finishes_what_waits_and_refuses_what_comes(
    opened: Opened, tmp_path: Path
) -> None:
    thread = DatabaseThread("test", opened, lambda _: None)
    waiting = [asyncio.create_task(thread.run(put(n))) for n in range(100)]
    await asyncio.sleep(0)
    await thread.close()
    await asyncio.gather(*waiting)
    with pytest.raises(Stopping):
        await thread.run(put(1))
    with sqlite3.connect(tmp_path / "t.db") as again:
        assert again.execute("SELECT count(*) FROM t").fetchone() == (100,)
    again.close()


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_writer_waits_a_little_for_whom_it_has_just_answered(
    opened: Opened, comes_back: bool
) -> None:
    thread = DatabaseThread("gathering", opened, lambda _: None, 10.0 if comes_back else 0.05)
    entered, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(tx: Transaction) -> None:
        del tx
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)

    async def first() -> None:
        await thread.run(hold)
        if comes_back:
            await thread.run(put("again"))

    try:
        async with asyncio.timeout(8):
            holding = asyncio.create_task(first())
            await entered.wait()
            waiting = [asyncio.create_task(thread.run(put(n))) for n in range(20)]
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.gather(holding, *waiting)
        assert opened.begun == 2
    finally:
        await thread.close()
