"""Commands of runs, as functions over an open transaction.

What a command does when it arrives is decided in `arrival`; here it is stored with its effects.
"""

from typing import Any

import msgspec

from treadle.control.arrival import Arrival, Close, make_way, open_turns, steps, target_of
from treadle.control.db.journal import RunJournal, decode_fold, run_not_found
from treadle.control.db.repository import RequestKey, StoredAnswer
from treadle.control.db.runs import answer_of, keep_answer, read_progress
from treadle.control.db.transaction import Row, Transaction
from treadle.control.faults import NotFound, RunBusy, RunEnded
from treadle.control.fold import OpenCommand, open_result, run_result, terminal_of
from treadle.control.records import (
    Command,
    CommandPage,
    CommandRequest,
    CommandState,
    CommandType,
    ResultEnvelope,
    TerminalStatus,
)
from treadle.kit.clock import iso_millis
from treadle.kit.mint import new_id

# What of a command's row only a change of the command sets.
UNCHANGED: Row = {
    "delivered_epoch": None,
    "failure_kind": None,
    "failure_message": None,
    "closed_at_ms": None,
}


def create_command(
    tx: Transaction,
    run_id: str,
    request: CommandRequest,
    payload: bytes,
    key: RequestKey | None,
) -> StoredAnswer:
    """Insert a command; do at once what of it needs no runner."""
    scope = f"run:{run_id}"
    known = answer_of(tx, scope, key)
    if known is not None:
        return known
    journal = RunJournal(tx, run_id)
    _refuse(journal, request)
    command = Arrival(new_id(), request.type, request.payload or {})
    busy_policy = journal.spec.busy_policy
    for step in make_way(journal.fold, busy_policy, command):
        if isinstance(step, Close):
            _close(journal, step)
        else:
            order = Arrival(new_id(), CommandType.INTERRUPT, step.payload)
            _insert(tx, journal, order, msgspec.json.encode(step.payload), step.target)
    target = target_of(journal.fold, busy_policy, command)
    row = _insert(tx, journal, command, payload, target, request.expires_in_ms)
    for step in steps(journal.fold, command, target):
        if isinstance(step, Close):
            _close(journal, step)
        else:
            journal.note("run-terminal", terminalStatus=step.terminal_status)
    row |= journal.changes_of(command.id)
    journal.save()
    return keep_answer(tx, scope, key, msgspec.json.encode(command_of(row)))


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
    fold = decode_fold(fold_row["fold"])
    if command_id is None:
        return run_result(run_id, fold, progress.last_seq)
    return open_result(run_id, fold, fold.open[command_id], progress.last_seq)


def expire_due(tx: Transaction, run_id: str) -> None:
    """Close the turns of a run that nobody has taken up in time."""
    journal = RunJournal(tx, run_id)
    if close_due(journal, tx.now_ms):
        journal.save()


def close_due(journal: RunJournal, now_ms: int) -> bool:
    """Close what is due, whether there was any; the caller saves the journal."""
    fold = journal.fold
    due = [command_id for command_id in fold.open if fold.is_due(command_id, now_ms)]
    for command_id in due:
        journal.expire(command_id)
    return bool(due)


def runs_with_due(tx: Transaction, limit: int) -> list[str]:
    """Runs that have a turn whose time is over."""
    return [row["run_id"] for row in tx.all("due_runs", now=tx.now_ms, limit=limit)]


def command_of(row: Row) -> Command:
    """A command's row as readers see it."""
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
        expires_at=_time(row["expires_at_ms"]),
        closed_at=_time(row["closed_at_ms"]),
    )


def _refuse(journal: RunJournal, request: CommandRequest) -> None:
    if journal.head.ended:
        raise RunEnded(journal.fold.terminal_status or TerminalStatus.FAILED)
    if request.type != CommandType.TURN or journal.spec.busy_policy != "reject":
        return
    if open_turns(journal.fold):
        raise RunBusy("A turn of this run is open and its busyPolicy is reject; wait for its end.")


def _insert(
    tx: Transaction,
    journal: RunJournal,
    command: Arrival,
    payload: bytes,
    target: OpenCommand | None,
    expires_in_ms: int | None = None,
) -> Row:
    """Add the command; returns its row as a read would find it."""
    journal.head.cmd_last += 1
    target_id = target.id if target else None
    expires_at_ms = None if expires_in_ms is None else tx.now_ms + expires_in_ms
    row: Row = {
        "run_id": journal.run_id,
        "cmd_seq": journal.head.cmd_last,
        "command_id": command.id,
        "type": command.type,
        "payload": payload.decode(),
        "target_command_id": target_id,
        "expires_at_ms": expires_at_ms,
    }
    tx.run("insert_command", **row, now=tx.now_ms)
    created: dict[str, Any] = {"commandType": command.type, "cmdSeq": journal.head.cmd_last}
    if target_id:
        created["targetCommandId"] = target_id
    if expires_at_ms is not None:
        created["expiresAtMs"] = expires_at_ms
    journal.note("command-created", command.id, commandId=command.id, **created)
    return {**row, "state": CommandState.PENDING, "created_at_ms": tx.now_ms, **UNCHANGED}


def _close(journal: RunJournal, step: Close) -> None:
    journal.note(
        "command-terminal",
        step.command_id,
        commandId=step.command_id,
        state=step.state,
        **({"failureMessage": step.message} if step.message else {}),
    )


def _command_row(tx: Transaction, run_id: str, command_id: str) -> Row:
    row = tx.one("read_command", run_id=run_id, command_id=command_id)
    if row is None:
        read_progress(tx, run_id)
        raise NotFound("command", "No such command in this run; list the run's commands.")
    return row


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_millis(at_ms / 1000)
