"""From a database URL to a repository.

Knows which kinds of database there are and how their URLs look; nothing else.
"""

from pathlib import Path

from treadle.control.db.postgres import SCHEMES, missing_migrations, open_postgres
from treadle.control.db.postgres_hints import Wakes
from treadle.control.db.repository import Repository
from treadle.control.faults import DatabaseUnusable
from treadle.kit.clock import Clock

SQLITE = "sqlite:///"
DEFAULT_FILE = "manager.db"


async def open_database(url: str | None, folder: Path, clock: Clock, wakes: Wakes) -> Repository:
    """Open the database at `url`, made or migrated where need be; None: a file in `folder`.

    Raises:
        DatabaseUnusable: the URL or the database cannot be used; the text says why and what to do.
    """
    if url is not None and url.startswith(SCHEMES):
        return await open_postgres(url, wakes)
    from treadle.control.db.sqlite import open_sqlite

    return await open_sqlite(sqlite_path(url, folder), clock, wakes.ring)


async def find_missing_migrations(url: str | None, folder: Path) -> list[str]:
    """Names of migrations that the database lacks; changes nothing.

    Raises:
        DatabaseUnusable: the URL or the database cannot be used.
    """
    if url is not None and url.startswith(SCHEMES):
        return await missing_migrations(url)
    from treadle.control.db.sqlite import missing_in_file

    return missing_in_file(sqlite_path(url, folder))


def sqlite_path(url: str | None, folder: Path) -> Path:
    """The file that a URL names; a relative path is below `folder`.

    Raises:
        DatabaseUnusable: the URL is of no kind that we know.
    """
    if url is None:
        return folder / DEFAULT_FILE
    if not url.startswith(SQLITE) or url == SQLITE:
        raise DatabaseUnusable(
            f"Cannot use the database {url.split(':', 1)[0]}:...; give sqlite:///PATH or "
            "postgresql://USER@HOST:PORT/DATABASE."
        )
    return folder / url.removeprefix(SQLITE)
