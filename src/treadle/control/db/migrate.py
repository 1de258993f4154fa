"""Numbered schema migrations with a checksum each.

A migration that was applied must still read as it did then, and a database that is newer than this
program is refused. How statements are run, in which transactions, is the adapter's matter.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources

from treadle.control.db.transaction import Connection
from treadle.control.faults import DatabaseUnusable

_TABLE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
    applied_at_ms BIGINT NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file.

    An `online` one says so on its first line: its statements run one by one outside a transaction,
    so that they lock for moments only, and each of them may run again after an interruption.
    """

    version: int
    name: str
    text: str

    @property
    def online(self) -> bool:
        """Whether its statements run by themselves."""
        return self.text.startswith("-- online\n")

    @property
    def checksum(self) -> str:
        """What must not change once it was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> list[str]:
        """Its statements in order."""
        lines = (line for line in self.text.splitlines() if not line.startswith("--"))
        parts = ("\n".join(lines) + "\n").split(";\n")
        return [part for part in parts if part.strip()]


def known_migrations(dialect: str) -> list[Migration]:
    """The migrations that ship for `dialect`, in order."""
    folder = resources.files("treadle.control.db").joinpath("migrations", dialect)
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [
        Migration(int(name.split("_")[0]), name, folder.joinpath(name).read_text("utf-8"))
        for name in found
    ]


def apply_migrations(connection: Connection, dialect: str, now_ms: int) -> int:
    """Apply all that is missing inside the caller's transaction; returns the schema's version.

    Raises:
        DatabaseUnusable: the schema is newer, or an applied migration was changed.
    """
    make_table(connection)
    for migration in find_missing(connection, dialect):
        for statement in migration.statements():
            connection.execute(statement)
        note_applied(connection, migration, now_ms)
    return known_migrations(dialect)[-1].version


def make_table(connection: Connection) -> None:
    """Make the table of migrations where there is none."""
    connection.execute(_TABLE)


def note_applied(connection: Connection, migration: Migration, now_ms: int) -> None:
    """Write down that a migration was applied; harmless when another manager did so."""
    connection.execute(
        "INSERT INTO schema_migrations VALUES (:version, :name, :checksum, :now) "
        "ON CONFLICT DO NOTHING",
        {
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.checksum,
            "now": now_ms,
        },
    )


def find_missing(
    connection: Connection, dialect: str, *, newer_is_fine: bool = False
) -> list[Migration]:
    """Migrations that a database with the table of migrations still lacks.

    `newer_is_fine` is for a manager that is at work while a newer release brings its schema:
    migrations only add, so it can go on.

    Raises:
        DatabaseUnusable: the schema is newer, or an applied migration was changed.
    """
    rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
    applied = {row["version"]: row["checksum"] for row in rows}
    known = known_migrations(dialect)
    newest = known[-1].version
    if applied and max(applied) > newest and not newer_is_fine:
        raise DatabaseUnusable(
            f"The database has schema {max(applied)}, this program knows up to {newest}; "
            "start a newer release, or use another database."
        )
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise DatabaseUnusable(
                f"Migration {migration.name} differs from the one that was applied to this "
                "database; start the release that made it, or use another database."
            )
    return [migration for migration in known if migration.version not in applied]
