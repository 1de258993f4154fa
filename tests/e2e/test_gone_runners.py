"""A runner's process is killed and somebody sees it: its runs go on elsewhere at once."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.test_operators import FAKE, at, create, do, in_mode
from support.command_line import Home, descendant, started, wait_gone
from support.manager_api import ManagerApi, assert_gapless
from support.postgres import Server

SEEN_SECONDS = 3.0
"""What is promised from the kill until another runner has the run; a lease is five times that."""
HANGING = "ignore-signals"
SERVE = ("runner", "serve", "--lease-ms", "15000", *FAKE)


@pytest.fixture
async def manager(
    request: pytest.FixtureRequest, bare_home: Home, tmp_path: Path
) -> AsyncIterator[ManagerApi]:
    data = tmp_path / "data"
    arguments = ["manager", "--port", "0", "--data", str(data), "--json"]
    if getattr(request, "param", "sqlite") == "postgres":
        server: Server = request.getfixturevalue("postgres_server")
        arguments += ["--database", server.create_database()]
    async with started(bare_home, *arguments) as process:
        url = json.loads(await process.wait_line("listening"))["listening"]
        async with ManagerApi(url, data) as api:
            yield api


async def wait_event(api: ManagerApi, run_id: str, phase: str, after: int = 0) -> dict[str, Any]:
    """The first event of a phase after a seq."""
    async with asyncio.timeout(30):
        while True:
            query = {"afterSeq": after, "limit": 1000, "waitMs": 20_000}
            for event in (await api.get(f"/runs/{run_id}/events", **query))["items"]:
                after = event["seq"]
                if event["payload"].get("phase") == phase:
                    return event


async def working_run(api: ManagerApi) -> tuple[str, dict[str, Any]]:
    """A run whose turn is at work and will not end by itself; its claim."""
    run_id = await create(api, approval="never")
    await wait_event(api, run_id, "active-turn-control-ready")
    return run_id, await wait_event(api, run_id, "run-claimed")


async def listed(home: Home) -> dict[str, dict[str, Any]]:
    found = json.loads((await do(home, "runners", "list", "--all", "--json")).out)
    return {each["id"]: each for each in found}


async def until_waits(api: ManagerApi, runner_id: str) -> None:
    async with asyncio.timeout(30):
        while all(each["id"] != runner_id for each in (await api.get("/runners"))["items"]):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("manager", ["sqlite", "postgres"], indirect=True)
async def test_another_runner_has_the_run_of_a_killed_worker_at_once(
    bare_home: Home, manager: ManagerApi
) -> None:
    first = at(bare_home, *SERVE, "--runner-id", "first")
    async with started(in_mode(bare_home, HANGING), *first) as supervisor:
        run_id, claim = await working_run(manager)
        backend = descendant(supervisor.pid, "treadle.testing.fake_backend")
        second = at(bare_home, *SERVE, "--runner-id", "second")
        async with started(bare_home, *second):
            await until_waits(manager, "second")
            killed_at = time.monotonic()
            os.kill(descendant(supervisor.pid, "serve"), signal.SIGKILL)
            taken = await wait_event(manager, run_id, "run-claimed", claim["seq"])
            spent = time.monotonic() - killed_at
            await wait_gone(backend)
            said = await supervisor.err.wait_line("killed by SIGKILL")
            await wait_event(manager, run_id, "command-terminal", taken["seq"])
    assert spent < SEEN_SECONDS
    assert (taken["payload"]["runnerId"], taken["payload"]["epoch"]) == ("second", 2)
    assert taken["payload"]["reason"] == "gone"
    assert "1 of its runs are free for others" in said
    lost = await wait_event(manager, run_id, "run-lease-expired")
    assert lost["payload"]["failureKind"] == "runner-crashed"
    assert lost["payload"]["failureMessage"] == "The runner is gone: killed by SIGKILL."
    assert_gapless(await manager.events(run_id))
    verified = await do(bare_home, "runs", "verify", run_id)
    assert verified.code == 0, verified.out


async def test_a_supervisor_starts_another_worker_under_the_same_name(
    bare_home: Home, manager: ManagerApi
) -> None:
    serve = at(bare_home, *SERVE, "--runner-id", "r", "--announce")
    async with started(bare_home, *serve) as supervisor:
        await until_waits(manager, "r")
        before = (await listed(bare_home))["r"]
        said = json.loads(await supervisor.wait_line("registered"))["registered"]
        assert said == {"runnerId": "r", "sessionId": before["sessionId"]}
        worker = descendant(supervisor.pid, "serve")
        os.kill(worker, signal.SIGKILL)
        await supervisor.err.wait_line("killed by SIGKILL")
        async with asyncio.timeout(30):
            while (now := (await manager.get("/runners/r")))["goneAt"] is not None:
                await asyncio.sleep(0.02)
        assert now["sessionId"] != before["sessionId"]
        run_id = await create(manager, approval="never")
        await wait_event(manager, run_id, "command-terminal")

        supervisor.signal(signal.SIGTERM)
        assert (await supervisor.finish()).code == 0
    run_ = await manager.get(f"/runs/{run_id}")
    assert (run_["leaseRemainingMs"], (await listed(bare_home))["r"]["goneAt"] is None) == (
        None,
        False,
    )
    listing = await do(bare_home, "runners", "list", "--all")
    assert "gone" in listing.out
    assert "r" not in (await do(bare_home, "runners", "list", "--json")).out.strip("[]\n")


async def test_a_worker_does_not_outlive_its_supervisor(
    bare_home: Home, manager: ManagerApi
) -> None:
    serve = at(bare_home, *SERVE)
    async with started(in_mode(bare_home, HANGING), *serve) as supervisor:
        await working_run(manager)
        worker = descendant(supervisor.pid, "serve")
        backend = descendant(supervisor.pid, "treadle.testing.fake_backend")
        supervisor.signal(signal.SIGKILL)
        await wait_gone(worker)
        await wait_gone(backend)


async def test_who_saw_an_end_may_say_so_at_a_shell(bare_home: Home, manager: ManagerApi) -> None:
    serve = at(bare_home, *SERVE, "--unsupervised", "--announce", "--runner-id", "r")
    async with started(in_mode(bare_home, HANGING), *serve) as runner:
        session = json.loads(await runner.wait_line("registered"))["registered"]["sessionId"]
        run_id, _ = await working_run(manager)
        runner.signal(signal.SIGKILL)
        await runner.process.wait()
    earlier = await do(bare_home, "runners", "gone", "r", "--session", "an-earlier-one")
    assert "r is gone; 0 runs" not in (await do(bare_home, "runs", "show", run_id)).out
    assert (earlier.code, "goes on" in earlier.out) == (0, True)
    assert (await manager.get(f"/runs/{run_id}"))["claimedBy"] == "r"
    gone = await do(
        bare_home, "runners", "gone", "r", "--session", session, "--reason", "node lost"
    )
    assert (gone.code, gone.out) == (0, "r is gone; 1 runs that it held are free for others\n")
    again = await do(bare_home, "runners", "gone", "r", "--json")
    assert json.loads(again.out)["lapsedRuns"] == []
    run_ = await manager.get(f"/runs/{run_id}")
    assert (run_["status"], run_["claimedBy"]) == ("pending", None)
    lost = await wait_event(manager, run_id, "run-lease-expired")
    assert "node lost" in lost["payload"]["failureMessage"]
    missing = await do(bare_home, "runners", "gone", "nobody")
    assert (missing.code, "No such runner" in missing.err) == (2, True)
