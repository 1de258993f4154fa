"""Numbered schema migrations with a checksum each.

A migration that was applied must still read as it did then, and a database that is newer than this
program is refused. Runs inside a transaction that the adapter opens.
"""

import hashlib
from importlib import resources

from treadle.control.db.transaction import Connection
from treadle.control.faults import DatabaseUnusable

_TABLE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
    applied_at_ms BIGINT NOT NULL)"""


def known_migrations(dialect: str) -> list[tuple[int, str, str]]:
    """Version, name and text of each migration that ships for `dialect`, in order."""
    folder = resources.files("treadle.control.db").joinpath("migrations", dialect)
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [
        (int(name.split("_")[0]), name, folder.joinpath(name).read_text("utf-8")) for name in found
    ]


def apply_migrations(connection: Connection, dialect: str, now_ms: int) -> int:
    """Apply what is missing; returns the schema's version.

    Raises:
        DatabaseUnusable: the schema is newer, or an applied migration was changed.
    """
    connection.execute(_TABLE)
    missing = find_missing(connection, dialect)
    for version, name, text in missing:
        _apply(connection, version, name, text, now_ms)
    return known_migrations(dialect)[-1][0]


def find_missing(connection: Connection, dialect: str) -> list[tuple[int, str, str]]:
    """Migrations that a database with the table of migrations still lacks.

    Raises:
        DatabaseUnusable: the schema is newer, or an applied migration was changed.
    """
    rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
    applied = {row["version"]: row["checksum"] for row in rows}
    known = known_migrations(dialect)
    newest = known[-1][0]
    if applied and max(applied) > newest:
        raise DatabaseUnusable(
            f"The database has schema {max(applied)}, this program knows up to {newest}; "
            "start a newer release, or use another database."
        )
    for version, name, text in known:
        if applied.get(version, _checksum(text)) != _checksum(text):
            raise DatabaseUnusable(
                f"Migration {name} differs from the one that was applied to this database; "
                "start the release that made it, or use another database."
            )
    return [migration for migration in known if migration[0] not in applied]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _apply(connection: Connection, version: int, name: str, text: str, now_ms: int) -> None:
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for statement in body.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(
        "INSERT INTO schema_migrations VALUES (:version, :name, :checksum, :now)",
        {"version": version, "name": name, "checksum": _checksum(text), "now": now_ms},
    )
