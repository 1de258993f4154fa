"""`treadle runs` and `treadle db`: what they show, what they change, how they exit."""

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.command_line import Finished, Home, run, started
from support.manager_api import ManagerApi
from treadle.control.db.migrate import known_migrations


@pytest.fixture
async def manager(bare_home: Home, tmp_path: Path) -> AsyncIterator[ManagerApi]:
    data = tmp_path / "data"
    arguments = ["manager", "--port", "0", "--data", str(data), "--json"]
    async with started(bare_home, *arguments) as process:
        url = json.loads(await process.wait_line("listening"))["listening"]
        async with ManagerApi(url, data) as api:
            yield api


async def runs(home: Home, *arguments: str) -> Finished:
    return await run(home, "runs", *arguments, "--data", str(home.folder.parent / "data"))


async def test_runs_are_listed_and_shown_for_people_and_programs(
    bare_home: Home, manager: ManagerApi, workspace: Path
) -> None:
    run_id, command_id = await manager.create_turn(workspace)
    listed = await runs(bare_home, "list", "--json")
    assert [(r["id"], r["status"]) for r in json.loads(listed.out)] == [(run_id, "pending")]
    table = await runs(bare_home, "list")
    assert (table.code, run_id in table.out, "pending" in table.out) == (0, True, True)
    shown = json.loads((await runs(bare_home, "show", run_id, "--json")).out)
    assert [command["id"] for command in shown["commands"]] == [command_id]
    assert shown["run"]["status"] == shown["result"]["status"] == "pending"
    assert str(workspace) in (await runs(bare_home, "show", run_id)).out.replace("\n", "")


async def test_an_interrupt_leaves_the_run_open_a_cancel_ends_it_and_tail_tells_how(
    bare_home: Home, manager: ManagerApi, workspace: Path
) -> None:
    run_id, _ = await manager.create_turn(workspace)
    stopped = await runs(bare_home, "interrupt", run_id)
    assert (stopped.code, stopped.out) == (0, "interrupt completed\n")
    again = await runs(bare_home, "interrupt", run_id)
    assert (again.code, again.out) == (2, "interrupt rejected: turn-not-active\n")
    assert (await manager.get(f"/runs/{run_id}"))["terminalStatus"] is None
    cancelled = await runs(bare_home, "cancel", run_id, "--json")
    assert json.loads(cancelled.out)["state"] == "completed"
    tail = await runs(bare_home, "tail", run_id, "--json")
    events = [json.loads(line) for line in tail.out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["payload"]["phase"] == "run-terminal"
    assert tail.code == 4
    refused = await runs(bare_home, "cancel", run_id)
    assert (refused.code, "has ended" in refused.err) == (2, True)


async def test_exit_codes_tell_a_wrong_request_from_a_manager_that_is_not_there(
    bare_home: Home, manager: ManagerApi
) -> None:
    for command in ("show", "tail", "cancel"):
        missing = await runs(bare_home, command, "no-such-run")
        assert (missing.code, "No such run" in missing.err) == (2, True), missing.err
    gone = await runs(bare_home, "list", "--manager-url", "http://127.0.0.1:1")
    assert (gone.code, "No answer" in gone.err) == (6, True)
    assert "Traceback" not in gone.err


async def test_verify_finds_what_somebody_changed_behind_the_log(
    bare_home: Home, workspace: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    arguments = ["manager", "--port", "0", "--data", str(data), "--json"]
    async with started(bare_home, *arguments) as process:
        url = json.loads(await process.wait_line("listening"))["listening"]
        async with ManagerApi(url, data) as api:
            run_id, _ = await api.create_turn(workspace)
        assert (await runs(bare_home, "verify")).out == "1 runs verified, 0 differ\n"
        with sqlite3.connect(data / "manager.db") as changed:
            changed.execute("UPDATE runs SET status = 'completed'")
        changed.close()
        found = await runs(bare_home, "verify", run_id)
        assert found.code == 7
        assert f"{run_id}: status is completed, the log says pending" in found.out
        busy = await run(bare_home, "db", "verify", "--data", str(data))
        assert (busy.code, "in use by another manager" in busy.err) == (1, True)
    verified = await run(bare_home, "db", "verify", "--data", str(data), "--json")
    assert verified.code == 7
    assert json.loads(verified.out.splitlines()[-1]) == {"runs": 1, "differing": 1}


async def test_a_database_is_verified_only_once_it_was_migrated(
    bare_home: Home, postgres_url: str, tmp_path: Path
) -> None:
    where = ["--database", postgres_url, "--data", str(tmp_path / "data")]
    early = await run(bare_home, "db", "verify", *where)
    assert (early.code, "run `treadle db migrate`" in early.err) == (1, True)
    migrated = await run(bare_home, "db", "migrate", *where, "--json")
    newest = known_migrations("sqlite")[-1].version
    assert json.loads(migrated.out) == {"schemaVersion": newest}
    verified = await run(bare_home, "db", "verify", *where)
    assert (verified.code, verified.out) == (0, "0 runs verified, 0 differ\n")


async def test_a_server_that_does_not_answer_is_said_with_the_remedy(
    bare_home: Home, tmp_path: Path
) -> None:
    where = ["--database", "postgresql://me:secret@127.0.0.1:1/x", "--data", str(tmp_path)]
    for command in (["manager", "--port", "0"], ["db", "migrate"]):
        refused = await run(bare_home, *command, *where)
        assert refused.code == 1
        assert "No PostgreSQL server answers at 127.0.0.1:1" in refused.err
        assert "secret" not in refused.err
        assert "Traceback" not in refused.err
