"""`treadle manager`: what it prints, what it refuses, and how it ends."""

import asyncio
import json
import os
import signal
import stat
from pathlib import Path

import httpx
import pytest

from support.command_line import Home, run, started
from support.manager_api import ManagerApi


def arguments(data: Path, *more: str) -> list[str]:
    return ["manager", "--port", "0", "--data", str(data), *more]


async def test_the_json_line_says_where_it_listens_and_the_token_admits(
    bare_home: Home, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with started(bare_home, *arguments(data, "--json")) as manager:
        url = json.loads(await manager.wait_line("listening"))["listening"]
        async with ManagerApi(url, data) as api:
            assert (await api.get("/runs"))["items"] == []
        async with httpx.AsyncClient(base_url=url) as stranger:
            answer = await stranger.get("/api/v1/runs")
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_token_and_data_belong_to_the_user_alone(bare_home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with started(bare_home, *arguments(data, "--json")) as manager:
        await manager.wait_line("listening")
        assert stat.S_IMODE((data / "token").stat().st_mode) == 0o600
        assert stat.S_IMODE((data / "manager.db").stat().st_mode) == 0o600
        assert stat.S_IMODE(data.stat().st_mode) == 0o700


async def test_the_token_survives_a_restart(bare_home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data"
    tokens: list[str] = []
    for _ in range(2):
        async with started(bare_home, *arguments(data)) as manager:
            await manager.wait_line("listening on")
            tokens.append((data / "token").read_text())
            manager.signal(signal.SIGTERM)
            assert (await manager.finish()).code == 0
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_ends_it_in_time_and_takes_its_address_away(
    bare_home: Home, tmp_path: Path, number: signal.Signals
) -> None:
    data = tmp_path / "data"
    async with started(bare_home, *arguments(data, "--json")) as manager:
        url = json.loads(await manager.wait_line("listening"))["listening"]
        assert json.loads((data / "manager.json").read_text())["url"] == url
        async with ManagerApi(url, data) as api:
            run_id = (await api.post("/runs", {}))["id"]
            query = {"afterSeq": 1, "waitMs": 30_000}
            parked = asyncio.create_task(api.get(f"/runs/{run_id}/events", **query))
            await api.get(f"/runs/{run_id}")
            manager.signal(number)
            # Two seconds are the promise; the rest is for a machine that does other work.
            async with asyncio.timeout(4):
                assert await manager.process.wait() == 0
            await asyncio.wait({parked}, timeout=5)
            assert parked.done()
            parked.exception()
    assert not (data / "manager.json").exists()


async def test_a_port_in_use_is_named_with_the_remedy(bare_home: Home, tmp_path: Path) -> None:
    async with started(bare_home, *arguments(tmp_path / "one", "--json")) as manager:
        url = json.loads(await manager.wait_line("listening"))["listening"]
        port = url.rsplit(":", 1)[1]

        finished = await run(
            bare_home, "manager", "--port", port, "--data", str(tmp_path / "other")
        )

        assert (finished.code, finished.out) == (1, "")
        assert f"127.0.0.1:{port} is in use" in finished.err
        assert "choose another port" in finished.err


async def test_a_second_manager_of_one_data_folder_is_refused(
    bare_home: Home, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with started(bare_home, *arguments(data, "--json")) as manager:
        url = json.loads(await manager.wait_line("listening"))["listening"]

        finished = await run(bare_home, *arguments(data))

        assert (finished.code, finished.out) == (1, "")
        assert "Traceback" not in finished.err
        assert json.loads((data / "manager.json").read_text())["url"] == url


async def test_a_data_folder_that_cannot_be_written_is_named_with_the_remedy(
    bare_home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")

    finished = await run(bare_home, *arguments(file / "data"))

    assert (finished.code, finished.out) == (1, "")
    assert f"cannot write to the data folder {file / 'data'}" in finished.err
    assert "--data" in finished.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_permission_is_named(bare_home: Home, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)

    finished = await run(bare_home, *arguments(locked / "data"))

    assert (finished.code, finished.out) == (1, "")
    assert "Permission denied" in finished.err


async def test_without_authentication_it_stays_on_this_machine(
    bare_home: Home, tmp_path: Path
) -> None:
    finished = await run(
        bare_home, *arguments(tmp_path / "data", "--auth", "none", "--host", "0.0.0.0")
    )

    assert (finished.code, finished.out) == (1, "")
    assert "this machine only" in finished.err
    assert "auth mode token" in finished.err
