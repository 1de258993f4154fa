"""Threads as rows: metadata, records, edges, and the pages of the list.

Every function works inside a transaction of its caller. Knows neither leases nor connections;
records are bytes that it does not look into, except to search them.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from treadle.engine.store.listing import (
    Anchor,
    check_query,
    cut_page,
    levels,
    source_kinds,
    to_ms,
)
from treadle.engine.store.metadata import apply_patch
from treadle.engine.store.thread_store import (
    ThreadInfo,
    ThreadNotFound,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
)

_infos = msgspec.json.Decoder(ThreadInfo)
_RESPELT = frozenset('"\\/<>&')
"""Characters that JSON, or JSON inside of JSON, may spell in more than one way."""

_CHILDREN = "(thread_id IN (SELECT child_id FROM edges WHERE parent_id = ?) OR parent_id = ?)"
_FAMILY = """thread_id IN (
    WITH RECURSIVE
        pairs (child, parent) AS (
            SELECT child_id, parent_id FROM edges
            UNION SELECT thread_id, parent_id FROM threads WHERE parent_id IS NOT NULL
        ),
        family (id) AS (
            SELECT child FROM pairs WHERE parent = ?
            UNION SELECT child FROM pairs JOIN family ON parent = id
        )
    SELECT id FROM family
)"""


def find(db: sqlite3.Connection, thread_id: str) -> ThreadInfo:
    """Metadata of a stored thread; raises ThreadNotFound."""
    row = db.execute("SELECT info FROM threads WHERE thread_id = ?", (thread_id,)).fetchone()
    if row is None:
        raise ThreadNotFound(thread_id)
    return _infos.decode(row[0])


def is_stored(db: sqlite3.Connection, thread_id: str) -> bool:
    """Whether anything of a thread is stored."""
    query = "SELECT 1 FROM threads WHERE thread_id = ?"
    return db.execute(query, (thread_id,)).fetchone() is not None


def put(db: sqlite3.Connection, info: ThreadInfo, *, preview_set: bool = False) -> None:
    """Insert or replace metadata; `preview_set` once somebody said what the preview is."""
    created = info.created
    # Long texts are in the log's first record; lists and metadata do not carry them.
    light = msgspec.structs.replace(
        created, base_instructions=None, developer_instructions=None, dynamic_tools=None
    )
    kind, detail = source_kinds(created.source)
    values = (
        info.thread_id,
        msgspec.json.encode(msgspec.structs.replace(info, created=light)),
        info.archived,
        to_ms(info.created_at),
        to_ms(info.updated_at),
        to_ms(info.recency_at),
        info.preview,
        preview_set,
        info.name,
        created.cwd,
        kind,
        detail,
        created.model_provider,
        created.parent_thread_id,
    )
    db.execute(
        f"INSERT INTO threads VALUES ({_marks(values)}) ON CONFLICT (thread_id) DO UPDATE SET"
        " info = excluded.info, archived = excluded.archived, updated_at = excluded.updated_at,"
        " recency_at = excluded.recency_at, preview = excluded.preview, name = excluded.name,"
        " preview_set = preview_set OR excluded.preview_set",
        values,
    )


def patch(db: sqlite3.Connection, thread_id: str, change: ThreadPatch) -> ThreadInfo:
    """Change metadata; raises ThreadNotFound."""
    info = apply_patch(find(db, thread_id), change)
    put(db, info, preview_set=change.preview is not msgspec.UNSET)
    return info


def touch(db: sqlite3.Connection, thread_id: str, updated_at: float, preview: str) -> None:
    """Note what a batch brings: a later time, and a preview where none was ever set."""
    query = "SELECT info, preview_set FROM threads WHERE thread_id = ?"
    body, preview_set = db.execute(query, (thread_id,)).fetchone()
    info = _infos.decode(body)
    info.updated_at = max(info.updated_at, updated_at)
    if not info.preview and not preview_set:
        info.preview = preview
    put(db, info)


def add_records(db: sqlite3.Connection, thread_id: str, bodies: list[bytes]) -> None:
    """Store records behind those that are there."""
    query = "SELECT coalesce(max(ordinal), 0) FROM records WHERE thread_id = ?"
    last = int(db.execute(query, (thread_id,)).fetchone()[0])
    rows = [(thread_id, last + place, body) for place, body in enumerate(bodies, 1)]
    db.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)


def log_of(db: sqlite3.Connection, thread_id: str) -> Iterator[bytes]:
    """The records of a thread in order."""
    query = "SELECT body FROM records WHERE thread_id = ? ORDER BY ordinal"
    for (body,) in db.execute(query, (thread_id,)):
        yield body


def may_mention(db: sqlite3.Connection, thread_id: str, text: str) -> bool:
    """Whether the log may contain a text in any case; raises ThreadNotFound."""
    if not is_stored(db, thread_id):
        raise ThreadNotFound(thread_id)
    if not text.isascii() or not text.isprintable() or _RESPELT & set(text):
        return True  # only reading tells
    wanted = text.lower().encode()
    return any(wanted in body.lower() for body in log_of(db, thread_id))


def delete(db: sqlite3.Connection, thread_id: str) -> None:
    """Remove a thread's rows and the edges that touch it."""
    for table in ("threads", "records"):
        db.execute(f"DELETE FROM {table} WHERE thread_id = ?", (thread_id,))
    db.execute("DELETE FROM edges WHERE ? IN (parent_id, child_id)", (thread_id,))


def link(db: sqlite3.Connection, parent_id: str, child_id: str) -> None:
    """Remember a spawn edge; a child has one parent."""
    db.execute("INSERT OR REPLACE INTO edges VALUES (?, ?)", (child_id, parent_id))


def descendants(db: sqlite3.Connection, thread_id: str) -> list[str]:
    """All threads below one, level by level."""
    query = (
        "SELECT child_id FROM edges WHERE parent_id = ?"
        " UNION SELECT thread_id FROM threads WHERE parent_id = ? ORDER BY 1"
    )

    def children(parent: str) -> list[str]:
        return [row[0] for row in db.execute(query, (parent, parent))]

    return levels(thread_id, children)


def page(db: sqlite3.Connection, query: ThreadQuery) -> ThreadPage:
    """One page of threads that have a preview; raises InvalidQuery."""
    anchor = check_query(query)
    where, values = _conditions(query)
    if anchor is not None:
        condition, more = _beyond(query.sort_key, anchor, descending=query.descending)
        where.append(condition)
        values += more
    order = "DESC" if query.descending else "ASC"
    statement = (
        f"SELECT info FROM threads WHERE {' AND '.join(where)}"
        f" ORDER BY {query.sort_key} {order}, thread_id {order} LIMIT ?"
    )
    found = db.execute(statement, (*values, query.limit + 1))
    return cut_page([_infos.decode(row[0]) for row in found], query)


def _conditions(query: ThreadQuery) -> tuple[list[str], list[Any]]:
    where = ["archived = ?", "preview <> ''"]
    values: list[Any] = [query.archived]
    if query.sources:
        kinds = _marks(query.sources)
        where.append(f"(source_kind IN ({kinds}) OR source_detail IN ({kinds}))")
        values += [*query.sources, *query.sources]
    for column, wanted in (("provider", query.model_providers), ("cwd", query.cwds)):
        if wanted:
            where.append(f"{column} IN ({_marks(wanted)})")
            values += wanted
    if query.search_term:
        where.append("(instr(preview, ?) > 0 OR instr(coalesce(name, ''), ?) > 0)")
        values += [query.search_term, query.search_term]
    if query.excluded_ids:
        where.append(f"thread_id NOT IN ({_marks(query.excluded_ids)})")
        values += query.excluded_ids
    if query.parent_thread_id:
        where.append(_CHILDREN)
        values += [query.parent_thread_id, query.parent_thread_id]
    if query.ancestor_thread_id:
        where.append(f"{_FAMILY} AND thread_id <> ?")
        values += [query.ancestor_thread_id, query.ancestor_thread_id]
    return where, values


def _beyond(key: str, anchor: Anchor, *, descending: bool) -> tuple[str, list[Any]]:
    sign = "<" if descending else ">"
    if anchor.thread_id is None:
        return f"{key} {sign}= ?", [anchor.at_ms]
    equal = "=" if anchor.inclusive else ""
    return f"({key}, thread_id) {sign}{equal} (?, ?)", [anchor.at_ms, anchor.thread_id]


def _marks(values: tuple[Any, ...]) -> str:
    return ", ".join("?" for _ in values)
