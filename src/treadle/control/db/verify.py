"""Fold a run's log again and compare it with what is stored beside it."""

import msgspec

from treadle.control.db.journal import RunJournal
from treadle.control.db.transaction import Row, Transaction
from treadle.control.fold import LogEvent, refold, run_status

PAGE = 1000
ALL_COMMANDS = 2**53


def verify_run(tx: Transaction, run_id: str) -> list[str]:
    """What does not agree; empty when the log explains everything."""
    journal = RunJournal(tx, run_id)
    row = tx.one("read_progress", run_id=run_id)
    min_seq = row["min_seq"] if row else 1
    rows = _read_log(tx, run_id, min_seq)
    findings = _check_order(rows, min_seq, journal.head.last_seq)
    if min_seq > 1:
        return findings  # what explained the rest is gone, by policy
    fold, changes = refold(run_id, journal.spec.session_ref, map(_log_event, rows))
    if fold != journal.fold:
        findings.append("the stored fold differs from the log")
    run_row = tx.one("read_run", run_id=run_id) or {}
    if run_row.get("status") != run_status(fold):
        findings.append(f"status is {run_row.get('status')}, the log says {run_status(fold)}")
    if bool(journal.head.ended) != (fold.terminal_status is not None):
        findings.append("head and log disagree whether the run ended")
    for row in tx.all("list_commands", run_id=run_id, after_seq=0, limit=ALL_COMMANDS):
        change = changes.get(row["command_id"])
        state = change.state if change else "pending"
        if row["state"] != state:
            findings.append(f"command {row['cmd_seq']} is {row['state']}, the log says {state}")
        result = msgspec.json.encode(change.result).decode() if change and change.result else None
        if row["result"] != result:
            findings.append(f"the result of command {row['cmd_seq']} differs from the log")
    return findings


def _read_log(tx: Transaction, run_id: str, min_seq: int) -> list[Row]:
    rows: list[Row] = []
    while True:
        after = rows[-1]["seq"] if rows else min_seq - 1
        page = tx.all("read_events", run_id=run_id, after_seq=after, limit=PAGE)
        rows += page
        if len(page) < PAGE:
            return rows


def _check_order(rows: list[Row], min_seq: int, last_seq: int) -> list[str]:
    findings: list[str] = []
    if [row["seq"] for row in rows] != list(range(min_seq, last_seq + 1)):
        findings.append(f"seq is not {min_seq}..{last_seq} without a gap")
    producer: dict[int, int] = {}
    for row in rows:
        if row["epoch"] is None:
            continue
        cut = min_seq > 1 and not producer  # the first epoch may have lost its beginning
        expected = row["producer_seq"] if cut else producer.get(row["epoch"], 0) + 1
        if row["producer_seq"] != expected:
            findings.append(f"seq {row['seq']}: producer seq is not {expected}")
        producer[row["epoch"]] = row["producer_seq"]
    if list(producer) != sorted(producer):
        findings.append("epochs go back")
    return findings


def _log_event(row: Row) -> LogEvent:
    payload = msgspec.json.decode(row["payload"])
    return LogEvent(row["seq"], row["type"], payload, row["command_id"], row["epoch"])
