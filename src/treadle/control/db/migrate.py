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
    applied_at_ms INTEGER NOT NULL)"""


def known_migrations() -> list[tuple[int, str, str]]:
    """Version, name and text of each migration that ships, in order."""
    folder = resources.files("treadle.control.db").joinpath("migrations")
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [
        (int(name.split("_")[0]), name, folder.joinpath(name).read_text("utf-8")) for name in found
    ]


def apply_migrations(connection: Connection, now_ms: int) -> int:
    """Apply what is missing; returns the schema's version.

    Raises:
        DatabaseUnusable: the schema is newer, or an applied migration was changed.
    """
    connection.execute(_TABLE)
    rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
    applied = {row["version"]: row["checksum"] for row in rows}
    known = known_migrations()
    newest = known[-1][0]
    if applied and max(applied) > newest:
        raise DatabaseUnusable(
            f"The database has schema {max(applied)}, this program knows up to {newest}; "
            "start a newer release, or use another database."
        )
    for version, name, text in known:
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if applied.get(version, checksum) != checksum:
            raise DatabaseUnusable(
                f"Migration {name} differs from the one that was applied to this database; "
                "start the release that made it, or use another database."
            )
        if version not in applied:
            _apply(connection, version, name, text, checksum, now_ms)
    return newest


def _apply(
    connection: Connection, version: int, name: str, text: str, checksum: str, now_ms: int
) -> None:
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for statement in body.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(
        "INSERT INTO schema_migrations VALUES (:version, :name, :checksum, :now)",
        {"version": version, "name": name, "checksum": checksum, "now": now_ms},
    )
