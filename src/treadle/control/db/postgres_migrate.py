"""Migrations of a PostgreSQL database that managers are working on.

A change of a table needs a lock that everybody else has to wait for, also while it is itself still
waiting; so each try waits for moments only, and is repeated. An index is built without such a lock
and may wait for long. One manager migrates at a time; what one did not finish the next one does.
"""

import time
from collections.abc import Callable

from treadle.control.db.migrate import Migration, find_missing, make_table, note_applied
from treadle.control.db.postgres_link import Link, errors
from treadle.control.faults import DatabaseUnusable

# What others wait at most behind a change that waits itself.
LOCK_MS = 500
PAUSE_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
LOCK_FAILURES = frozenset({"55P03", "40P01"})
"""SQLSTATE of a lock that was not to be had in time, and of a deadlock."""


def lock_schema(link: Link, statement: str) -> None:
    """Be the only manager that migrates.

    Raises:
        DatabaseUnusable: another one has been at it for too long.
    """
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while not (link.execute(statement).fetchone() or {}).get("mine"):
        if time.perf_counter() > deadline:
            raise DatabaseUnusable(
                "Another manager has been migrating the database for more than "
                f"{PATIENCE_SECONDS:.0f} s; wait for its end, then start again."
            )
        time.sleep(PAUSE_SECONDS)


def migrate(
    link: Link, dialect: str, read_clock: Callable[[], int], *, newer_is_fine: bool
) -> None:
    """Apply what is missing.

    Raises:
        DatabaseUnusable: the schema is newer or was changed, or a table stayed in use.
    """
    link.execute(f"SET lock_timeout = {LOCK_MS}")
    _patiently(link, lambda: make_table(link), "the table of migrations")
    for migration in find_missing(link, dialect, newer_is_fine=newer_is_fine):
        if migration.online:
            _apply_online(link, migration, read_clock)
        else:
            _patiently(link, lambda: _apply_at_once(link, migration, read_clock), migration.name)  # noqa: B023
    link.execute("RESET lock_timeout")


def _apply_at_once(link: Link, migration: Migration, read_clock: Callable[[], int]) -> None:
    link.execute("BEGIN")
    for statement in migration.statements():
        link.execute(statement)
    note_applied(link, migration, read_clock())
    link.execute("COMMIT")


def _apply_online(link: Link, migration: Migration, read_clock: Callable[[], int]) -> None:
    for statement in migration.statements():
        # Nobody waits behind the building of an index.
        slow = " CONCURRENTLY " in statement
        link.execute(f"SET lock_timeout = {0 if slow else LOCK_MS}")
        _patiently(link, lambda: link.execute(statement), migration.name)  # noqa: B023
    link.execute(f"SET lock_timeout = {LOCK_MS}")
    note_applied(link, migration, read_clock())


def _patiently(link: Link, work: Callable[[], object], name: str) -> None:
    """Do it, again and again while a lock is not to be had."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while True:
        try:
            work()
        except errors() as error:
            link.rollback()
            if getattr(error, "sqlstate", None) not in LOCK_FAILURES:
                raise
            if time.perf_counter() > deadline:
                raise DatabaseUnusable(
                    f"Migration {name} could not lock its table for {PATIENCE_SECONDS:.0f} s; end "
                    "long transactions on the database, then start again."
                ) from error
            time.sleep(PAUSE_SECONDS)
        else:
            return
