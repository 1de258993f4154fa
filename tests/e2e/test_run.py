"""`treadle run`: a task through a manager and a runner, with the configured provider."""

import json
import os
import signal
from pathlib import Path

from support.command_line import Home, descendant, run, started
from support.fake_provider import FakeProvider, Step, calls, created, function_call, reply
from support.manager_api import ManagerApi, assert_gapless


def arguments(workspace: Path, data: Path, *more: str) -> list[str]:
    place = ["--workspace", str(workspace), "--data", str(data)]
    return ["run", "Look around.", *place, "--sandbox", "danger-full-access", *more]


async def test_a_task_is_carried_out_with_a_manager_of_its_own(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    (workspace / "heddle.txt").write_text("")
    provider.script(
        calls(function_call("exec_command", {"cmd": "ls", "login": False})), reply("A heddle.")
    )

    finished = await run(home, *arguments(workspace, tmp_path / "data"))

    assert finished.code == 0, finished.out + finished.err
    assert "heddle.txt" in finished.out
    assert "● A heddle." in finished.out
    assert "status   completed" in finished.out
    assert finished.err == ""


async def test_a_task_is_carried_out_through_the_manager_that_runs(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    provider.script(reply("Done so."))
    manager_arguments = ["manager", "--json", "--port", "0", "--data", str(data)]
    async with started(home, *manager_arguments) as manager:
        url = json.loads(await manager.wait_line("listening"))["listening"]

        finished = await run(home, *arguments(workspace, data, "--json"))

        assert finished.code == 0, finished.out + finished.err
        result = json.loads(finished.out[finished.out.index("\n{\n") :])
        assert (result["reply"], result["terminalStatus"]) == ("Done so.", "completed")
        async with ManagerApi(url, data) as api:
            assert_gapless(await api.events(result["runId"]))


async def test_a_failed_task_exits_1_with_kind_and_reason(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.default = Step(status=401, body='{"error": {"message": "bad key"}}')

    finished = await run(home, *arguments(workspace, tmp_path / "data"))

    assert finished.code in (1, 3), finished.out + finished.err
    assert "failure  provider-auth-failed" in finished.out
    assert "Traceback" not in finished.err


async def test_without_a_provider_it_says_what_to_put_where(
    bare_home: Home, workspace: Path, tmp_path: Path
) -> None:
    finished = await run(bare_home, *arguments(workspace, tmp_path / "data"))

    assert (finished.code, finished.out) == (2, "")
    assert str(bare_home.folder / "config.toml") in finished.err
    assert "[model_providers." in finished.err
    assert "treadle demo" in finished.err


async def test_a_workspace_that_is_missing_is_named(home: Home, tmp_path: Path) -> None:
    finished = await run(home, *arguments(tmp_path / "nowhere", tmp_path / "data"))

    assert (finished.code, finished.out) == (2, "")
    assert str(tmp_path / "nowhere") in finished.err
    assert "--workspace" in finished.err


async def test_ctrl_c_cancels_the_run(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.script(Step([created()], hang=True))
    async with started(home, *arguments(workspace, tmp_path / "data")) as command:
        await provider.wait_requests(1)
        command.signal(signal.SIGINT)
        finished = await command.finish()

    assert finished.code == 4, finished.out + finished.err
    assert "status   cancelled" in finished.out
    assert "Traceback" not in finished.err


async def test_a_runner_that_is_killed_leaves_its_run_to_others_at_once(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    provider.script(Step([created()], hang=True))
    manager_arguments = ["manager", "--json", "--port", "0", "--data", str(data)]
    async with started(home, *manager_arguments) as manager:
        # Before it listens, the command would begin a manager of its own.
        url = json.loads(await manager.wait_line("listening"))["listening"]
        async with started(home, *arguments(workspace, data)) as command:
            await provider.wait_requests(1)
            os.kill(descendant(command.pid, "runner"), signal.SIGKILL)
            finished = await command.finish()
        async with ManagerApi(url, data) as api:
            (left,) = (await api.get("/runs"))["items"]

    assert finished.code == 5, finished.out + finished.err
    assert f"no runner finished run {left['id']}" in finished.err
    assert (left["status"], left["leaseRemainingMs"]) == ("pending", None)


async def test_ctrl_c_twice_quits_though_the_runner_does_not_answer(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.script(Step([created()], hang=True))
    async with started(home, *arguments(workspace, tmp_path / "data")) as command:
        await provider.wait_requests(1)
        os.kill(descendant(command.pid, "runner"), signal.SIGSTOP)
        command.signal(signal.SIGINT)
        await command.wait_line("once more quits")
        command.signal(signal.SIGINT)
        finished = await command.finish()

    assert finished.code == 130, finished.out + finished.err
    assert "quit; run " in finished.err
