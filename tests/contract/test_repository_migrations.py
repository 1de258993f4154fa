"""Opening a database that this release did not make, or that somebody changed."""

import sqlite3
from pathlib import Path

import pytest

from treadle.control.db.migrate import apply_migrations, known_migrations
from treadle.control.db.sqlite import open_sqlite
from treadle.control.faults import DatabaseUnusable
from treadle.kit.clock import ManualClock


async def open_and_close(path: Path) -> int:
    repository = await open_sqlite(path, ManualClock(), lambda _: None)
    await repository.close()
    return repository.schema_version


def change(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()


async def test_migrations_are_numbered_without_a_gap_and_applied_once(tmp_path: Path) -> None:
    versions = [migration.version for migration in known_migrations("sqlite")]
    assert versions == list(range(1, len(versions) + 1))
    path = tmp_path / "m.db"
    assert await open_and_close(path) == await open_and_close(path) == versions[-1]


async def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    await open_and_close(path)
    change(path, "INSERT INTO schema_migrations VALUES (99, 'x', 'x', 0)")
    with pytest.raises(DatabaseUnusable, match="start a newer release"):
        await open_and_close(path)


async def test_an_applied_migration_that_reads_otherwise_now_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    await open_and_close(path)
    change(path, "UPDATE schema_migrations SET checksum = 'other'")
    with pytest.raises(DatabaseUnusable, match="differs from the one that was applied"):
        await open_and_close(path)


async def test_a_refused_database_can_be_opened_by_the_right_release(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    await open_and_close(path)
    change(path, "INSERT INTO schema_migrations VALUES (99, 'x', 'x', 0)")
    with pytest.raises(DatabaseUnusable):
        await open_and_close(path)
    change(path, "DELETE FROM schema_migrations WHERE version = 99")
    assert await open_and_close(path) == known_migrations("sqlite")[-1].version


def test_a_migration_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("CREATE TABLE claim_waits (x)")
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        apply_migrations(connection, "sqlite", 0)
    connection.execute("ROLLBACK")
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert [row[0] for row in tables] == ["claim_waits"]
    connection.close()


async def test_the_database_and_its_side_files_are_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.db"
    repository = await open_sqlite(path, ManualClock(), lambda _: None)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    await repository.close()
    assert set(modes.values()) == {0o600}
    assert {"m.db", "m.db-wal", "m.db.lock"} <= set(modes)
    assert path.parent.stat().st_mode & 0o777 == 0o700
