"""Migrations of a PostgreSQL database while managers and others work on it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.postgres import Server, Session
from treadle.control.db import postgres_migrate
from treadle.control.db.migrate import known_migrations
from treadle.control.db.open import find_missing_migrations, open_database
from treadle.control.db.repository import Repository, RunQuery
from treadle.control.events import Bells
from treadle.control.faults import DatabaseUnusable
from treadle.kit.clock import SystemClock

OF_INDEX = "indexrelid = 'runs_ended'::regclass"
NEWEST = known_migrations("postgres")[-1]


@pytest.fixture
async def url(postgres_server: Server) -> str:
    url = postgres_server.create_database()
    async with opened(url):
        return url


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Repository]:
    repository = await open_database(url, Path(), SystemClock(), Bells())
    try:
        yield repository
    finally:
        await repository.close()


def forget(session: Session, version: int) -> None:
    session.run("DELETE FROM schema_migrations WHERE version = $1", version)


async def test_a_migration_that_was_interrupted_is_finished_by_the_next_manager(url: str) -> None:
    online = [migration for migration in known_migrations("postgres") if migration.online]
    assert online
    session = Session(url)
    forget(session, online[0].version)
    # What is left when building an index is cut off.
    session.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'runs_ended'::regclass")
    assert await find_missing_migrations(url, Path()) == [online[0].name]
    async with opened(url):
        pass
    assert await find_missing_migrations(url, Path()) == []
    rows = session.run(f"SELECT indisvalid FROM pg_index WHERE {OF_INDEX}")
    session.close()
    assert [row["indisvalid"] for row in rows] == [True]


async def test_a_migration_waits_for_a_busy_table_without_holding_others_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, other = Session(url), Session(url)
    forget(session, 4)
    session.run("ALTER TABLE run_heads DROP COLUMN min_seq")
    monkeypatch.setattr(postgres_migrate, "LOCK_MS", 100)
    session.run("BEGIN")
    session.run("LOCK TABLE run_heads IN ROW EXCLUSIVE MODE")
    opening = asyncio.create_task(open_database(url, Path(), SystemClock(), Bells()))
    slowest = 0.0
    for _ in range(20):
        began = time.perf_counter()
        await asyncio.to_thread(other.run, "SELECT count(*) FROM run_heads")
        slowest = max(slowest, time.perf_counter() - began)
        await asyncio.sleep(0.03)
    assert not opening.done()
    session.run("COMMIT")
    repository = await opening
    assert repository.schema_version == NEWEST.version
    await repository.close()
    session.close()
    other.close()
    assert slowest < 5.0, "a reader waited as long as the migration did"


async def test_managers_that_migrate_at_once_do_it_once(url: str) -> None:
    session = Session(url)
    forget(session, NEWEST.version)
    session.close()
    opening = (open_database(url, Path(), SystemClock(), Bells()) for _ in range(3))
    repositories = await asyncio.gather(*opening)
    assert {each.schema_version for each in repositories} == {NEWEST.version}
    for each in repositories:
        await each.close()
    assert await find_missing_migrations(url, Path()) == []


async def test_a_manager_goes_on_under_a_newer_schema_but_an_old_one_does_not_start(
    url: str, postgres_server: Server
) -> None:
    session = Session(url)
    async with opened(url) as repository:
        session.run("INSERT INTO schema_migrations VALUES (99, 'newer', 'x', 0)")
        assert postgres_server.cut_sessions(url) > 0
        for attempt in range(50):
            try:
                await repository.lapse_leases(1)  # a write: its connection enters anew
                await repository.list_runs(RunQuery(limit=1))
                break
            except DatabaseUnusable:
                assert attempt < 49
                await asyncio.sleep(0.1)
        with pytest.raises(DatabaseUnusable, match="start a newer release"):
            await open_database(url, Path(), SystemClock(), Bells())
    session.close()
