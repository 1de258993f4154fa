"""Each process of a run is killed in the middle of a turn; the run's log stays whole.

Killed means SIGKILL: nothing gets to say goodbye. The turn hangs at the model when it happens, so
the tests know where in the run they are.
"""

import contextlib
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.command_line import Home, Running, descendant, start, started, wait_gone
from support.fake_provider import FakeProvider, Step, calls, created, function_call, reply
from support.manager_api import ManagerApi, assert_gapless, known_part
from treadle.cli.exit_codes import TRANSIENT

LEASE_MS = "1500"


@dataclass
class Fleet:
    """A manager that runs, and a client of it."""

    home: Home
    data: Path
    manager: Running
    api: ManagerApi

    @contextlib.asynccontextmanager
    async def runner(self, run_id: str, *more: str) -> AsyncGenerator[Running]:
        arguments = ["runner", "once", "--run-id", run_id, "--manager-url", self.api.url]
        arguments += ["--token-file", str(self.data / "token"), "--lease-ms", LEASE_MS]
        arguments += ["--codex-home", str(self.home.folder), "--one-shot", *more]
        async with started(self.home, *arguments) as command:
            yield command


@pytest.fixture
async def fleet(home: Home, tmp_path: Path) -> AsyncIterator[Fleet]:
    data = tmp_path / "data"
    manager = await start(home, "manager", "--json", "--port", "0", "--data", str(data))
    try:
        url = json.loads(await manager.wait_line("listening"))["listening"]
        async with ManagerApi(url, data) as api:
            fleet = Fleet(home, data, manager, api)
            yield fleet
            await fleet.manager.kill()
    finally:
        await manager.kill()


def script_tool_then_hang(provider: FakeProvider) -> None:
    """A first answer that calls a tool, a second one that never ends."""
    call = function_call("exec_command", {"cmd": "echo warp", "login": False})
    provider.script(calls(call), Step([created()], hang=True))


async def test_a_killed_app_server_fails_the_run_with_a_classified_reason(
    fleet: Fleet, provider: FakeProvider, workspace: Path
) -> None:
    script_tool_then_hang(provider)
    run_id, _ = await fleet.api.create_turn(workspace)
    async with fleet.runner(run_id) as runner:
        await provider.wait_requests(2)
        before = known_part(await fleet.api.events(run_id))

        os.kill(descendant(runner.pid, "app-server"), signal.SIGKILL)

        result = await fleet.api.wait_ended(run_id)
        assert (result["terminalStatus"], result["failureKind"]) == ("failed", "runner-crashed")
        assert result["failureMessage"]
        assert (await runner.finish()).code == TRANSIENT
    events = await fleet.api.events(run_id)
    assert_gapless(events)
    assert known_part(events)[: len(before)] == before


async def test_after_a_killed_runner_another_one_finishes_the_turn(
    fleet: Fleet, provider: FakeProvider, workspace: Path
) -> None:
    script_tool_then_hang(provider)
    run_id, _ = await fleet.api.create_turn(workspace)
    async with fleet.runner(run_id) as runner:
        await provider.wait_requests(2)
        app_server = descendant(runner.pid, "app-server")
        before = known_part(await fleet.api.events(run_id))
        runner.signal(signal.SIGKILL)
        await runner.process.wait()
        await wait_gone(app_server)

    provider.script(reply("Weft."))
    async with fleet.runner(run_id, "--claim-retry-interval-ms", "100") as second:
        result = await fleet.api.wait_ended(run_id)
        code = (await second.finish()).code
    assert (result["terminalStatus"], result["reply"], code) == ("completed", "Weft.", 0)
    events = await fleet.api.events(run_id)
    assert_gapless(events)
    assert known_part(events)[: len(before)] == before
    phases = [each["payload"].get("phase") for each in events]
    assert phases.count("run-terminal") == 1
    assert "runner-claim-recovered" in phases


async def test_a_killed_manager_comes_back_and_the_runner_goes_on(
    fleet: Fleet, provider: FakeProvider, workspace: Path
) -> None:
    script_tool_then_hang(provider)
    run_id, _ = await fleet.api.create_turn(workspace)
    # A lease that outlives the restart: the runner must not lose the run by the kill alone.
    async with fleet.runner(run_id, "--lease-ms", "60000") as runner:
        await provider.wait_requests(2)
        before = known_part(await fleet.api.events(run_id))
        fleet.manager.signal(signal.SIGKILL)
        await fleet.manager.process.wait()

        port = fleet.api.url.rsplit(":", 1)[1]
        arguments = ["manager", "--json", "--port", port, "--data", str(fleet.data)]
        fleet.manager = await start(fleet.home, *arguments)
        await fleet.manager.wait_line("listening")
        assert known_part(await fleet.api.events(run_id))[: len(before)] == before
        await fleet.api.post(f"/runs/{run_id}/commands", {"type": "interrupt", "payload": {}})

        result = await fleet.api.wait_ended(run_id)
        assert result["terminalStatus"] == "cancelled"
        assert (await runner.finish()).code == 4
    events = await fleet.api.events(run_id)
    assert_gapless(events)
    assert known_part(events)[: len(before)] == before
