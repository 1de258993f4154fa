"""Runs whose runners are placed, as functions over an open transaction."""

import msgspec

from treadle.control.db.journal import RunJournal
from treadle.control.db.transaction import Row, Transaction
from treadle.control.placed import GivenUp, PlacedRun
from treadle.control.records import Placement, TerminalStatus
from treadle.control.rules import decide_given_up
from treadle.domain.failures import FailureKind


def read_placed(
    tx: Transaction, placement: Placement, limit: int, named: list[str]
) -> list[PlacedRun]:
    """Runs that want a runner or have one, oldest first, then what else is named."""
    rows = tx.all("placed_runs", placement=placement, limit=limit)
    found = {row["run_id"]: row for row in rows}
    missing = [run_id for run_id in named if run_id not in found and "\0" not in run_id]
    if missing:
        run_ids = msgspec.json.encode(missing).decode()
        rows = tx.all("named_runs", placement=placement, run_ids=run_ids)
        found |= {row["run_id"]: row for row in rows}
    return [_placed(row) for row in found.values()]


def give_up(tx: Transaction, given_up: GivenUp) -> bool:
    """Use up the epoch that nobody claimed; the run ends where that was the last attempt."""
    journal = RunJournal(tx, given_up.run_id)
    head = journal.head
    verdict = decide_given_up(head.facts, given_up)
    if verdict is None:
        return False
    if verdict == "count":
        head.epoch, head.attempt, head.last_end = given_up.epoch, head.attempt + 1, "unplaced"
        why = {"failureKind": given_up.kind, "failureMessage": given_up.message}
        journal.note("run-placement-failed", epoch=given_up.epoch, **why)
    lost = journal.fold.losses
    if journal.fold.wants_cancel():  # there is nobody to do it, and no need of anybody
        journal.note("run-terminal", terminalStatus=TerminalStatus.CANCELLED)
    elif given_up.ends_the_run or lost >= journal.spec.max_attempts:
        _end(journal, given_up)
    journal.save()
    return True


def _end(journal: RunJournal, given_up: GivenUp) -> None:
    blocked = given_up.kind == FailureKind.SECRET_UNAVAILABLE
    often = "" if given_up.ends_the_run else f"{journal.fold.losses} attempts were lost in turn. "
    journal.note(
        "run-terminal",
        terminalStatus=TerminalStatus.BLOCKED if blocked else TerminalStatus.FAILED,
        failureKind=given_up.kind,
        failureMessage=f"{often}{given_up.message}",
    )


def _placed(row: Row) -> PlacedRun:
    held = row["runner_id"] is not None
    return PlacedRun(
        run_id=row["run_id"],
        epoch=row["epoch"],
        runner_id=row["runner_id"],
        attempt_id=row["attempt_id"],
        is_waiting=not held and not row["ended"] and row["open_commands"] > 0,
        is_ended=bool(row["ended"]),
    )
