"""Runs and reads of the log, as functions over an open transaction."""

import msgspec

from treadle.control.access import Scope
from treadle.control.db.journal import RunJournal, decode_fold, decode_spec, run_not_found
from treadle.control.db.repository import Progress, RequestKey, RunQuery, StoredAnswer
from treadle.control.db.transaction import Row, Transaction
from treadle.control.faults import EventsGone, IdempotencyConflict
from treadle.control.fold import RunFold
from treadle.control.records import (
    Event,
    EventPage,
    Run,
    RunSpec,
)
from treadle.kit.clock import iso_millis
from treadle.kit.mint import new_id

PAGE_BYTES = 1024 * 1024


def create_run(tx: Transaction, spec: RunSpec, key: RequestKey | None) -> StoredAnswer:
    """Insert the run, its head and its first event."""
    scope = f"tenant:{spec.tenant_id}"
    known = answer_of(tx, scope, key)
    if known is not None:
        return known
    journal = RunJournal.begin(tx, new_id(), spec)
    journal.note("run-created", backendProfile=spec.backend_profile)
    journal.save()
    run = run_in(journal)
    return keep_answer(tx, scope, key, msgspec.json.encode(run))


def read_run(tx: Transaction, run_id: str) -> Run:
    """One run."""
    row = tx.one("read_run", run_id=run_id)
    if row is None:
        raise run_not_found()
    return run_of(row, tx.now_ms)


def read_scope(tx: Transaction, run_id: str) -> Scope:
    """Whose run it is."""
    row = tx.one("read_run_scope", run_id=run_id)
    if row is None:
        raise run_not_found()
    return Scope(row["tenant_id"], row["project_id"])


def list_runs(tx: Transaction, query: RunQuery) -> list[Run]:
    """Newest first."""
    rows = tx.all(
        "list_runs",
        cursor=query.cursor,
        status=query.status,
        tenant_id=query.tenant_id,
        project_id=query.project_id,
        limit=query.limit,
    )
    return [run_of(row, tx.now_ms) for row in rows]


def read_events(tx: Transaction, run_id: str, after_seq: int, limit: int) -> EventPage:
    """A page of the log, cut at about `PAGE_BYTES` but never empty while there is more."""
    rows = tx.all("read_page", run_id=run_id, after_seq=after_seq, limit=limit, size=PAGE_BYTES)
    if not rows:
        raise run_not_found()
    progress = _progress_of(rows[0])
    if after_seq + 1 < progress.min_seq:
        raise EventsGone(progress.min_seq)
    items = [_event_of(run_id, row) for row in rows if row["seq"] is not None]
    return EventPage(items=items, last_seq=progress.last_seq, terminal=progress.ended)


def read_progress(tx: Transaction, run_id: str) -> Progress:
    """How far the run is."""
    row = tx.one("read_progress", run_id=run_id)
    if row is None:
        raise run_not_found()
    return _progress_of(row)


def _progress_of(row: Row) -> Progress:
    return Progress(row["last_seq"], row["cmd_last"], bool(row["ended"]), row["min_seq"])


def run_of(row: Row, now_ms: int) -> Run:
    """A run's row as readers see it."""
    return _view(decode_spec(row["spec"]), decode_fold(row["fold"]), row, now_ms)


def run_in(journal: RunJournal) -> Run:
    """A run that is being changed, as a read of it after `save` would find it."""
    return _view(journal.spec, journal.fold, journal.columns(), journal.now_ms)


def _view(spec: RunSpec, fold: RunFold, row: Row, now_ms: int) -> Run:
    held = row["runner_id"] is not None
    return Run(
        id=row["run_id"],
        tenant_id=spec.tenant_id,
        project_id=spec.project_id,
        workspace_ref=spec.workspace_ref,
        session_ref=fold.session,
        provider_id=spec.provider_id,
        backend_profile=spec.backend_profile,
        execution_policy=spec.execution_policy,
        trace_sink=spec.trace_sink,
        labels=spec.labels,
        busy_policy=spec.busy_policy,
        max_attempts=spec.max_attempts,
        placement=spec.placement,
        status=row["status"],
        terminal_status=fold.terminal_status,
        failure_kind=fold.failure_kind,
        failure_message=fold.failure_message,
        pending_requests=list(fold.requests.values()),
        claimed_by=row["last_holder"] if row["ended"] else row["runner_id"],
        epoch=row["epoch"],
        attempt=row["attempt"],
        lease_remaining_ms=max(0, row["lease_until_ms"] - now_ms) if held else None,
        last_seq=row["last_seq"],
        cmd_last=row["cmd_last"],
        created_at=iso_millis(row["created_at_ms"] / 1000),
        updated_at=iso_millis(row["updated_at_ms"] / 1000),
    )


def answer_of(tx: Transaction, scope: str, key: RequestKey | None) -> StoredAnswer | None:
    """The answer that an earlier request with this key got; raises IdempotencyConflict."""
    if key is None:
        return None
    row = tx.one("read_idempotency", scope=scope, key=key.key)
    if row is None:
        return None
    if row["request_sha256"] != key.request_sha256:
        raise IdempotencyConflict("This idempotency key came with another body; use a new key.")
    return StoredAnswer(row["answer"], replayed=True)


def keep_answer(tx: Transaction, scope: str, key: RequestKey | None, body: bytes) -> StoredAnswer:
    """Remember the answer under the key, where there is one."""
    if key is not None:
        tx.run(
            "put_idempotency",
            scope=scope,
            key=key.key,
            request_sha256=key.request_sha256,
            answer=body,
            now=tx.now_ms,
        )
    return StoredAnswer(body, replayed=False)


def _event_of(run_id: str, row: Row) -> Event:
    return Event(
        seq=row["seq"],
        run_id=run_id,
        type=row["type"],
        payload=msgspec.Raw(row["payload"].encode()),
        at=row["at"],
        command_id=row["command_id"],
        epoch=row["epoch"],
        producer_seq=row["producer_seq"],
    )
