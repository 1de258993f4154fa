"""What a PostgreSQL transaction keeps back, when it sends it, and what it can take back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from treadle.control.db.postgres_transaction import (
    BufferedTransaction,
    waiting_parameters,
)
from treadle.control.faults import InvalidRequest

NAMES = (
    "write_all",
    "change_command",
    "end_attempt",
    "note_wait",
    "read_run",
    "read_command",
    "read_fold",
    "read_head",
)


class Recorder:
    """Stands for a connection; notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def execute(self, sql: str, parameters: Mapping[str, Any] = {}, /) -> "Recorder":
        if sql == "write_all":
            parts = {"head": "epoch", "fold": "now", "attempt": "epoch"}
            words = [
                f"{name} {row[column]}"
                for name, column in parts.items()
                for row in json.loads(parameters[f"{name}s"])
            ]
            words += [f"event {seq}" for seq in parameters["event_seq"]]
            self.told.append(" ".join([sql, *words]))
        else:
            self.told.append(f"{sql} {parameters['n']}" if "n" in parameters else sql)
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> "Recorder":
        self.told.append(f"{sql} {len(list(parameters))}")
        return self

    def fetchone(self) -> None:
        return None

    def fetchall(self) -> list[Any]:
        return []


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tx(recorder: Recorder) -> BufferedTransaction:
    statements = {name: f"SELECT {name}" if "read" in name else name for name in NAMES}
    return BufferedTransaction(recorder, statements, lambda: 0)


def write_head(tx: BufferedTransaction, run_id: str, number: int, **changes: Any) -> None:
    tx.run("write_head", run_id=run_id, epoch=number, **changes)


def start_attempt(tx: BufferedTransaction, number: int) -> None:
    tx.run(
        "start_attempt",
        run_id="a",
        epoch=number,
        runner_id="r",
        attempt_id=None,
        session="s",
        now=0,
    )


def append(tx: BufferedTransaction, run_id: str, number: int) -> None:
    tx.begin_piece()
    write_head(tx, run_id, number)
    tx.insert_events([(run_id, number, 1, number, "t", None, "at", "{}")])


def test_what_many_pieces_wrote_is_sent_in_one_statement_each(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    for number in (1, 2, 3):
        append(tx, f"run-{number % 2}", number)
        tx.keep_piece()
    assert recorder.told == []
    tx.flush()
    assert recorder.told == ["write_all head 3 head 2 event 1 event 2 event 3"]


def test_a_piece_that_fails_takes_only_its_own_writes_with_it(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    append(tx, "a", 1)
    tx.keep_piece()
    append(tx, "b", 2)
    tx.one("note_wait")
    tx.one("read_run")
    tx.undo_piece()
    tx.flush()
    mark, undo = recorder.told.index("SAVEPOINT piece"), recorder.told.index("ROLLBACK TO piece")
    assert recorder.told[:mark] == ["write_all head 1 event 1"]
    assert "write_all head 2" in recorder.told[mark:undo]
    assert recorder.told[undo + 1 :] == ["RELEASE piece"]


def test_a_read_sends_what_it_could_see_and_nothing_else(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    append(tx, "a", 1)
    tx.run("change_command", run_id="a", n=2)
    tx.one("read_command")
    assert recorder.told == ["SAVEPOINT piece", "change_command 2", "SELECT read_command"]


def test_a_read_of_one_run_leaves_what_others_wrote_for_later(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    append(tx, "a", 1)
    tx.keep_piece()
    tx.one("read_run", run_id="b")
    assert recorder.told == ["SELECT read_run"]
    tx.one("read_run", run_id="a")
    assert recorder.told[1:] == ["write_all head 1", "SELECT read_run"]


def test_an_attempt_that_starts_and_ends_at_once_is_started_first(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    tx.run("end_attempt", n=1)
    start_attempt(tx, 2)
    tx.run("end_attempt", n=2)
    tx.keep_piece()
    tx.flush()
    assert recorder.told == ["write_all attempt 2", "end_attempt 1", "end_attempt 2"]


def test_a_text_that_cannot_be_stored_is_refused_before_anything_is_sent(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    tx.begin_piece()
    with pytest.raises(InvalidRequest, match=r"U\+0000"):
        tx.run("change_command", command_id="a\0b")
    tx.undo_piece()
    tx.flush()
    assert recorder.told == []


def head(run_id: str, **changes: Any) -> dict[str, Any]:
    return {"run_id": run_id, "runner_id": None, "ended": 0, "open_commands": 1, **changes}


def test_what_was_read_ahead_is_not_asked_for_again_until_it_is_written(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    tx.know("fold", {"a": [{"fold": "old"}]})
    tx.begin_piece()
    assert tx.one("read_fold", run_id="a") == {"fold": "old"}
    assert recorder.told == []
    tx.run("write_fold", run_id="a", fold="{}", status="pending", now=1, ended_at_ms=None)
    tx.one("read_fold", run_id="a")
    assert recorder.told[-2:] == ["write_all fold 1", "SELECT read_fold"]
    tx.undo_piece()
    recorder.told.clear()
    assert tx.one("read_fold", run_id="a") == {"fold": "old"}
    assert recorder.told == []


ANY = (None, None, None)


def test_waiting_runs_are_given_out_once_and_only_while_they_wait(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    tx.know_waiting(ANY, [head(name) for name in "abcd"])
    tx.know_waiting(("x", None, None), [head("b"), head("d")])
    taken = []
    for profile, limit in ((None, 1), ("x", 1), (None, 2), ("x", 1), (None, 1)):
        tx.begin_piece()
        rows = tx.all("waiting_runs", **waiting_parameters((profile, None, None)), limit=limit)
        for row in rows:
            write_head(tx, row["run_id"], 0, runner_id="r")
        tx.keep_piece()
        taken.append("".join(row["run_id"] for row in rows))
    assert taken == ["a", "b", "cd", "", ""]
    assert recorder.told == []


def test_a_piece_that_fails_leaves_waiting_runs_to_others_of_a_later_group(
    tx: BufferedTransaction, recorder: Recorder
) -> None:
    tx.know_waiting(ANY, [head("a"), head("b")])
    tx.begin_piece()
    (first,) = tx.all("waiting_runs", **waiting_parameters(ANY), limit=1)
    write_head(tx, first["run_id"], 0, runner_id="r")
    tx.undo_piece()
    tx.begin_piece()
    (second,) = tx.all("waiting_runs", **waiting_parameters(ANY), limit=1)
    assert (first["run_id"], second["run_id"], second["runner_id"]) == ("a", "b", None)
    assert recorder.told == []
