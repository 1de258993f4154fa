"""`treadle demo`: the whole path, with a model whose words were recorded."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.command_line import Finished, Home, run, started
from support.manager_api import ManagerApi, assert_gapless


def result_of(finished: Finished) -> dict[str, Any]:
    """The envelope, which is the last thing that the command prints."""
    return json.loads(finished.out[finished.out.rindex("\n{\n") :])


async def test_the_demo_mends_the_sample_and_leaves_a_whole_record(
    bare_home: Home, tmp_path: Path
) -> None:
    data = tmp_path / "demo"

    finished = await run(bare_home, "demo", "--pace-ms", "0", "--data", str(data))

    assert finished.code == 0, finished.out + finished.err
    result = result_of(finished)
    assert (result["status"], result["failureKind"]) == ("completed", None)
    (workspace,) = data.glob("workspace-*")
    unittest = [sys.executable, "-m", "unittest", "-q"]
    tests = subprocess.run(unittest, cwd=workspace, check=False, capture_output=True, timeout=40)
    assert tests.returncode == 0, tests.stderr
    (rollout,) = (data / "home" / "sessions").rglob("rollout-*.jsonl")
    assert result["sessionRef"]["threadId"] in rollout.name

    arguments = ["manager", "--json", "--port", "0", "--data", str(data / "manager")]
    async with started(bare_home, *arguments) as manager:
        url = json.loads(await manager.wait_line("listening"))["listening"]
        async with ManagerApi(url, data / "manager") as api:
            events = await api.events(result["runId"])
            assert_gapless(events)
            assert events[-1]["payload"]["phase"] == "run-terminal"
            again = await api.get(f"/runs/{result['runId']}/result")
            assert again["terminalStatus"] == "completed"


async def test_byte_code_beside_the_sample_does_not_reach_the_workspace(
    bare_home: Home, tmp_path: Path
) -> None:
    from treadle.cli.demo import DATA

    # What `make setup` and installers leave behind.
    cache = DATA / "project" / "__pycache__"
    cache.mkdir(exist_ok=True)
    data = tmp_path / "demo"

    finished = await run(bare_home, "demo", "--pace-ms", "0", "--data", str(data))

    assert finished.code == 0, finished.out + finished.err


async def test_a_served_demo_ends_soon_after_ctrl_c(bare_home: Home, tmp_path: Path) -> None:
    data = tmp_path / "demo"
    async with started(bare_home, "demo", "--serve", "--pace-ms", "0", "--data", str(data)) as demo:
        line = await demo.wait_line("goes on serving at")
        url = line.split(" at ")[1].split(" ")[0]
        async with ManagerApi(url, data / "manager") as api:
            assert [each["status"] for each in (await api.get("/runs"))["items"]] == ["completed"]
        demo.signal(signal.SIGINT)
        async with asyncio.timeout(5):
            assert await demo.process.wait() == 0


async def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(
    bare_home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")

    finished = await run(bare_home, "demo", "--data", str(file / "demo"))

    assert finished.code == 1
    assert f"cannot write to {file / 'demo'}" in finished.err
    assert "--data" in finished.err
