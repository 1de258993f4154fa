"""The index of a home's threads: one SQLite file that can be deleted at any time.

Holds what lists need and what patches changed; everything a file tells is found again by scanning.
Used from one worker thread; several processes share the file. Its name is Treadle's own, and no
other program's database is ever touched.
"""

import contextlib
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from treadle.domain.policy import Settings
from treadle.domain.records import ThreadCreated
from treadle.engine.store.listing import Anchor, source_kinds, to_ms
from treadle.engine.store.local.folder_watch import FileFacts
from treadle.engine.store.thread_store import StorageFailed, ThreadInfo, ThreadQuery
from treadle.kit.fault_points import reach

FILE = "treadle_index_1.sqlite"
_BUSY_SECONDS = 5.0
_OPEN_TRIES = 100
_OPEN_PAUSE_SECONDS = 0.05
_CHECKPOINT_PAGES = 4000
"""So that taking in some thousand files need not wait for the disk."""
_CACHE_KIB = 8000
"""Rows of some thousand threads: pages of one list lie all over the table."""
_SCHEMA = """
-- With a rowid, so that threads of one time, which were read together, lie together.
CREATE TABLE IF NOT EXISTS threads (
    thread_id TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    archived INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    recency_at INTEGER NOT NULL,
    preview TEXT NOT NULL,
    name TEXT,
    cwd TEXT NOT NULL,
    source_kind TEXT NOT NULL,
    source_detail TEXT,
    provider TEXT NOT NULL,
    parent_id TEXT,
    facts BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_created ON threads (archived, created_at, thread_id);
CREATE INDEX IF NOT EXISTS by_updated ON threads (archived, updated_at, thread_id);
CREATE INDEX IF NOT EXISTS by_recency ON threads (archived, recency_at, thread_id);
CREATE INDEX IF NOT EXISTS by_parent ON threads (parent_id);
CREATE INDEX IF NOT EXISTS by_path ON threads (path);
CREATE INDEX IF NOT EXISTS unsaid ON threads (path) WHERE preview = '';
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY,
    mtime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    thread_id TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_thread ON files (thread_id);
CREATE TABLE IF NOT EXISTS spawn_edges (
    child_id TEXT PRIMARY KEY,
    parent_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_spawner ON spawn_edges (parent_id);
"""
_COLUMNS = "thread_id, path, archived, created_at, updated_at, recency_at, preview, name, facts"
_PUT = "INSERT OR REPLACE INTO threads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FAMILY = """thread_id IN (WITH RECURSIVE family(id) AS (
    SELECT ?
    UNION SELECT thread_id FROM threads JOIN family ON threads.parent_id = family.id
    UNION SELECT child_id FROM spawn_edges JOIN family ON spawn_edges.parent_id = family.id
) SELECT id FROM family LIMIT -1 OFFSET 1)"""


_CHILDREN = """(parent_id = ? OR thread_id IN (
    SELECT child_id FROM spawn_edges WHERE parent_id = ?))"""


class _Facts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What lists show and never filter by."""

    created: ThreadCreated
    model: str | None = None
    effort: str | None = None
    git: dict[str, Any] | None = None
    memory_mode: str | None = None
    settings: Settings | None = None
    tokens_used: int = 0


_facts = msgspec.json.Decoder(_Facts)


class Index:
    """Rows of threads and of the files they were read from. Paths are relative to the home."""

    def __init__(self, home: Path) -> None:
        """Open the index of a home, or begin a new one when it is unusable."""
        self._prefix = f"{home}/"
        self._db = _connect(home / FILE)
        self._version = -1

    def close(self) -> None:
        """Let the file go; idempotent."""
        self._db.close()

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """One short transaction; raises StorageFailed when others keep the index busy."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            reach("engine.index.committing")
            self._db.execute("COMMIT")
            reach("engine.index.committed")
        except sqlite3.Error as error:
            raise StorageFailed(f"thread index: {error}") from error

    def files(self) -> dict[str, FileFacts]:
        """Every file that was read so far."""
        rows = self._rows("SELECT path, mtime_ns, size, thread_id FROM files")
        return {path: FileFacts(mtime, size, thread) for path, mtime, size, thread in rows}

    def files_among(self, paths: list[str]) -> dict[str, FileFacts]:
        """Those of the files that were read so far, by whomever."""
        query = f"SELECT path, mtime_ns, size, thread_id FROM files WHERE path IN ({_marks(paths)})"
        rows = self._rows(query, *paths)
        return {path: FileFacts(mtime, size, thread) for path, mtime, size, thread in rows}

    def changed(self) -> bool:
        """Whether another process wrote since the last call."""
        [(version,)] = self._rows("PRAGMA data_version")
        before, self._version = self._version, version
        return version != before

    def drop_threads(self, thread_ids: Iterable[str]) -> None:
        """Forget rows, and nothing of files."""
        self._db.executemany("DELETE FROM threads WHERE thread_id = ?", [(i,) for i in thread_ids])

    def put_files(self, files: Mapping[str, FileFacts]) -> None:
        """Remember the state of files."""
        rows = [(path, each.mtime_ns, each.size, each.thread_id) for path, each in files.items()]
        self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def drop_files(self, paths: Iterable[str]) -> None:
        """Forget files that are gone, and the threads that were in them alone."""
        gone = [(path,) for path in paths]
        self._db.executemany("DELETE FROM files WHERE path = ?", gone)
        self._db.executemany("DELETE FROM threads WHERE path = ?", gone)

    def paths_of(self, thread_id: str) -> list[str]:
        """Files known to hold parts of a thread."""
        query = "SELECT path FROM files WHERE thread_id = ?"
        return sorted(row[0] for row in self._rows(query, thread_id))

    def forks_of(self, thread_id: str) -> list[ThreadInfo]:
        """Threads that say they were forked from this one."""
        statement = (
            f"SELECT {_COLUMNS} FROM threads"
            " WHERE json_extract(CAST(facts AS TEXT), '$.created.forked_from_id') = ?"
        )
        return [self._info(row) for row in self._rows(statement, thread_id)]

    def link(self, parent_id: str, child_id: str) -> None:
        """Remember a spawn edge; a child has one parent."""
        statement = "INSERT OR REPLACE INTO spawn_edges VALUES (?, ?)"
        self._db.execute(statement, (child_id, parent_id))

    def unlink(self, thread_id: str) -> None:
        """Forget all spawn edges of a thread."""
        statement = "DELETE FROM spawn_edges WHERE child_id = ? OR parent_id = ?"
        self._db.execute(statement, (thread_id, thread_id))

    def children(self, thread_id: str) -> list[str]:
        """Threads that this one spawned, as heads or edges tell, in the order of their ids."""
        query = (
            "SELECT thread_id FROM threads WHERE parent_id = ?"
            " UNION SELECT child_id FROM spawn_edges WHERE parent_id = ? ORDER BY 1"
        )
        return [row[0] for row in self._rows(query, thread_id, thread_id)]

    def unsaid(self) -> list[str]:
        """Files of threads in which no user has said anything yet."""
        return [row[0] for row in self._rows("SELECT path FROM threads WHERE preview = ''")]

    def get(self, thread_id: str) -> ThreadInfo | None:
        """One thread's row."""
        return self.get_all([thread_id]).get(thread_id)

    def get_all(self, thread_ids: Sequence[str]) -> dict[str, ThreadInfo]:
        """The rows of those threads that have one."""
        query = f"SELECT {_COLUMNS} FROM threads WHERE thread_id IN ({_marks(thread_ids)})"
        return {row[0]: self._info(row) for row in self._rows(query, *thread_ids)}

    def put(self, *threads: ThreadInfo) -> None:
        """Insert or replace the rows of threads."""
        self._db.executemany(_PUT, map(self._row, threads))

    def _row(self, info: ThreadInfo) -> tuple[Any, ...]:
        created = info.created
        kind, detail = source_kinds(created.source)
        facts = _Facts(
            created=_light(created),
            model=info.model,
            effort=info.effort,
            git=info.git,
            memory_mode=info.memory_mode,
            settings=info.settings,
            tokens_used=info.tokens_used,
        )
        return (
            info.thread_id,
            self.relative(info.path or ""),
            info.archived,
            to_ms(info.created_at),
            to_ms(info.updated_at),
            to_ms(info.recency_at),
            info.preview,
            info.name,
            created.cwd,
            kind,
            detail,
            created.model_provider,
            created.parent_thread_id,
            msgspec.json.encode(facts),
        )

    def rename(self, names: dict[str, str | None]) -> None:
        """Set names of the threads that have rows."""
        pairs = [(name, thread_id, name) for thread_id, name in names.items()]
        statement = "UPDATE threads SET name = ? WHERE thread_id = ? AND name IS NOT ?"
        self._db.executemany(statement, pairs)

    def page(
        self, query: ThreadQuery, anchor: Anchor | None, default_provider: str
    ) -> list[ThreadInfo]:
        """Rows of a page in order, one more than its limit when there are more."""
        where, values = _conditions(query, default_provider)
        order = "DESC" if query.descending else "ASC"
        if anchor is not None:
            condition, more = _beyond(query.sort_key, anchor, descending=query.descending)
            where.append(condition)
            values += more
        statement = (
            f"SELECT {_COLUMNS} FROM threads WHERE {' AND '.join(where)}"
            f" ORDER BY {query.sort_key} {order}, thread_id {order} LIMIT ?"
        )
        return [self._info(row) for row in self._rows(statement, *values, query.limit + 1)]

    def relative(self, path: str) -> str:
        """A path as the index keeps it."""
        return path.removeprefix(self._prefix)

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StorageFailed(f"thread index: {error}") from error

    def _info(self, row: tuple[Any, ...]) -> ThreadInfo:
        facts = _facts.decode(row[8])
        return ThreadInfo(
            thread_id=row[0],
            created=facts.created,
            path=self._prefix + row[1],
            archived=bool(row[2]),
            created_at=row[3] / 1000,
            updated_at=row[4] / 1000,
            recency_at=row[5] / 1000,
            preview=row[6],
            name=row[7],
            model=facts.model,
            effort=facts.effort,
            git=facts.git,
            memory_mode=facts.memory_mode,
            settings=facts.settings,
            tokens_used=facts.tokens_used,
        )


def _light(created: ThreadCreated) -> ThreadCreated:
    """The record without its long texts, which lists do not show."""
    return msgspec.structs.replace(
        created, base_instructions=None, developer_instructions=None, dynamic_tools=None
    )


def _connect(path: Path) -> sqlite3.Connection:
    for _ in range(_OPEN_TRIES):
        try:
            return _prepared(str(path))
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                break
            time.sleep(_OPEN_PAUSE_SECONDS)  # others are just making it, where SQLite waits not
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    # A home that cannot be written is still readable: index it for this process alone.
    return _prepared(":memory:")


def _prepared(target: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        target, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.executescript(_SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _conditions(query: ThreadQuery, default_provider: str) -> tuple[list[str], list[Any]]:
    where = ["archived = ?", "preview <> ''"]
    values: list[Any] = [query.archived]
    if query.sources:
        kinds = _marks(query.sources)
        where.append(f"(source_kind IN ({kinds}) OR source_detail IN ({kinds}))")
        values += [*query.sources, *query.sources]
    if query.model_providers:
        providers = query.model_providers
        if default_provider in providers:
            providers = (*providers, "")
        where.append(f"provider IN ({_marks(providers)})")
        values += providers
    if query.cwds:
        where.append(f"cwd IN ({_marks(query.cwds)})")
        values += query.cwds
    if query.search_term:
        where.append("(instr(preview, ?) > 0 OR instr(coalesce(name, ''), ?) > 0)")
        values += [query.search_term, query.search_term]
    family, members = _family(query)
    return where + family, values + members


def _family(query: ThreadQuery) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    if query.excluded_ids:
        where.append(f"thread_id NOT IN ({_marks(query.excluded_ids)})")
        values += query.excluded_ids
    if query.parent_thread_id:
        where.append(_CHILDREN)
        values += [query.parent_thread_id, query.parent_thread_id]
    if query.ancestor_thread_id:
        where.append(_FAMILY)
        values.append(query.ancestor_thread_id)
    return where, values


def _beyond(key: str, anchor: Anchor, *, descending: bool) -> tuple[str, list[Any]]:
    sign = "<" if descending else ">"
    if anchor.thread_id is None:
        return f"{key} {sign}= ?", [anchor.at_ms]
    equal = "=" if anchor.inclusive else ""
    return f"({key}, thread_id) {sign}{equal} (?, ?)", [anchor.at_ms, anchor.thread_id]


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)
