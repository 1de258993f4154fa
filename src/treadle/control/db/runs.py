"""Runs, commands and reads of the log, as functions over an open transaction."""

from typing import Any

import msgspec

from treadle.control.arrival import Arrival, Close, Step, steps, target_of
from treadle.control.db.journal import RunJournal, run_not_found
from treadle.control.db.repository import Progress, RequestKey, RunQuery, StoredAnswer
from treadle.control.db.transaction import Row, Transaction
from treadle.control.faults import IdempotencyConflict, NotFound, RunBusy, RunEnded
from treadle.control.fold import OpenCommand, RunFold, open_result, run_result, terminal_of
from treadle.control.records import (
    Command,
    CommandPage,
    CommandRequest,
    CommandState,
    CommandType,
    Event,
    EventPage,
    ResultEnvelope,
    Run,
    RunSpec,
    TerminalStatus,
)
from treadle.kit.clock import iso_millis
from treadle.kit.mint import new_id

PAGE_BYTES = 1024 * 1024


def create_run(tx: Transaction, spec: RunSpec, key: RequestKey | None) -> StoredAnswer:
    """Insert the run, its head and its first event."""
    scope = f"tenant:{spec.tenant_id}"
    known = _answer_of(tx, scope, key)
    if known is not None:
        return known
    run_id = new_id()
    fold = RunFold(session=spec.session_ref)
    tx.run(
        "insert_run",
        run_id=run_id,
        tenant_id=spec.tenant_id,
        project_id=spec.project_id,
        spec=msgspec.json.encode(spec).decode(),
        fold=msgspec.json.encode(fold).decode(),
        status="pending",
        now=tx.now_ms,
    )
    tx.run("insert_head", run_id=run_id, backend_profile=spec.backend_profile)
    journal = RunJournal(tx, run_id)
    journal.note("run-created", backendProfile=spec.backend_profile)
    journal.save()
    run = run_of(journal.run_row(), tx.now_ms)
    return _keep_answer(tx, scope, key, msgspec.json.encode(run))


def create_command(
    tx: Transaction,
    run_id: str,
    request: CommandRequest,
    payload: bytes,
    key: RequestKey | None,
) -> StoredAnswer:
    """Insert a command; do at once what of it needs no runner."""
    scope = f"run:{run_id}"
    known = _answer_of(tx, scope, key)
    if known is not None:
        return known
    journal = RunJournal(tx, run_id)
    _refuse(journal, request)
    command = Arrival(new_id(), request.type, request.payload or {})
    target = target_of(journal.fold, command)
    _insert_command(tx, journal, command, payload, target)
    _take_steps(journal, steps(journal.fold, command, target))
    journal.save()
    return _keep_answer(tx, scope, key, msgspec.json.encode(read_command(tx, run_id, command.id)))


def read_run(tx: Transaction, run_id: str) -> Run:
    """One run."""
    row = tx.one("read_run", run_id=run_id)
    if row is None:
        raise run_not_found()
    return run_of(row, tx.now_ms)


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


def read_command(tx: Transaction, run_id: str, command_id: str) -> Command:
    """One command."""
    return command_of(_command_row(tx, run_id, command_id))


def list_commands(tx: Transaction, run_id: str, after_seq: int, limit: int) -> CommandPage:
    """Commands after a command seq."""
    progress = read_progress(tx, run_id)
    rows = tx.all("list_commands", run_id=run_id, after_seq=after_seq, limit=limit)
    return CommandPage(items=[command_of(row) for row in rows], cmd_last=progress.cmd_last)


def read_result(tx: Transaction, run_id: str, command_id: str | None) -> ResultEnvelope:
    """The stored result of a closed command, else what the fold says now."""
    progress = read_progress(tx, run_id)
    row = _command_row(tx, run_id, command_id) if command_id is not None else None
    if row is not None and row["result"] is not None:
        return msgspec.json.decode(row["result"], type=ResultEnvelope)
    fold_row = tx.one("read_fold", run_id=run_id)
    if fold_row is None:
        raise run_not_found()
    fold = msgspec.json.decode(fold_row["fold"], type=RunFold)
    if command_id is None:
        return run_result(run_id, fold, progress.last_seq)
    return open_result(run_id, fold, fold.open[command_id], progress.last_seq)


def read_events(tx: Transaction, run_id: str, after_seq: int, limit: int) -> EventPage:
    """A page of the log, cut at about `PAGE_BYTES` but never empty while there is more."""
    progress = read_progress(tx, run_id)
    items: list[Event] = []
    size = 0
    for row in tx.all("read_events", run_id=run_id, after_seq=after_seq, limit=limit):
        size += len(row["payload"])
        if items and size > PAGE_BYTES:
            break
        items.append(_event_of(run_id, row))
    return EventPage(items=items, last_seq=progress.last_seq, terminal=progress.ended)


def read_progress(tx: Transaction, run_id: str) -> Progress:
    """How far the run is."""
    row = tx.one("read_progress", run_id=run_id)
    if row is None:
        raise run_not_found()
    return Progress(row["last_seq"], row["cmd_last"], bool(row["ended"]))


def run_of(row: Row, now_ms: int) -> Run:
    """A run's row as readers see it."""
    spec = msgspec.json.decode(row["spec"], type=RunSpec)
    fold = msgspec.json.decode(row["fold"], type=RunFold)
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


def command_of(row: Row) -> Command:
    """A command's row as readers see it."""
    closed_at = row["closed_at_ms"]
    return Command(
        id=row["command_id"],
        run_id=row["run_id"],
        cmd_seq=row["cmd_seq"],
        type=row["type"],
        payload=msgspec.Raw(row["payload"].encode()),
        state=row["state"],
        target_command_id=row["target_command_id"],
        terminal_status=terminal_of(row["state"]),
        failure_kind=row["failure_kind"],
        failure_message=row["failure_message"],
        delivered_epoch=row["delivered_epoch"],
        created_at=iso_millis(row["created_at_ms"] / 1000),
        closed_at=None if closed_at is None else iso_millis(closed_at / 1000),
    )


def _refuse(journal: RunJournal, request: CommandRequest) -> None:
    if journal.head.ended:
        raise RunEnded(journal.fold.terminal_status or TerminalStatus.FAILED)
    if request.type != CommandType.TURN or journal.spec.busy_policy != "reject":
        return
    if any(command.type == CommandType.TURN for command in journal.fold.open.values()):
        raise RunBusy("A turn of this run is open and its busyPolicy is reject; wait for its end.")


def _insert_command(
    tx: Transaction,
    journal: RunJournal,
    command: Arrival,
    payload: bytes,
    target: OpenCommand | None,
) -> None:
    journal.head.cmd_last += 1
    target_id = target.id if target else None
    tx.run(
        "insert_command",
        run_id=journal.run_id,
        cmd_seq=journal.head.cmd_last,
        command_id=command.id,
        type=command.type,
        payload=payload.decode(),
        target_command_id=target_id,
        now=tx.now_ms,
    )
    created: dict[str, Any] = {"commandType": command.type, "cmdSeq": journal.head.cmd_last}
    if target_id:
        created["targetCommandId"] = target_id
    journal.note("command-created", command.id, commandId=command.id, **created)


def _take_steps(journal: RunJournal, todo: list[Step]) -> None:
    for step in todo:
        if isinstance(step, Close):
            _close(journal, step.command_id, step.state, step.message)
        else:
            journal.note("run-terminal", terminalStatus=step.terminal_status)


def _close(journal: RunJournal, command_id: str, state: CommandState, message: str | None) -> None:
    journal.note(
        "command-terminal",
        command_id,
        commandId=command_id,
        state=state,
        **({"failureMessage": message} if message else {}),
    )


def _answer_of(tx: Transaction, scope: str, key: RequestKey | None) -> StoredAnswer | None:
    if key is None:
        return None
    row = tx.one("read_idempotency", scope=scope, key=key.key)
    if row is None:
        return None
    if row["request_sha256"] != key.request_sha256:
        raise IdempotencyConflict("This idempotency key came with another body; use a new key.")
    return StoredAnswer(row["answer"], replayed=True)


def _keep_answer(tx: Transaction, scope: str, key: RequestKey | None, body: bytes) -> StoredAnswer:
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


def _command_row(tx: Transaction, run_id: str, command_id: str) -> Row:
    row = tx.one("read_command", run_id=run_id, command_id=command_id)
    if row is None:
        read_progress(tx, run_id)
        raise NotFound("command", "No such command in this run; list the run's commands.")
    return row


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
