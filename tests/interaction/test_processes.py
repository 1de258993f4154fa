import asyncio
import os
from pathlib import Path

import pytest

from support.toolkit import ENV
from treadle.kit.commands import start_command
from treadle.kit.processes import TREE_MARK, SpawnError, spawn, tree_mark


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


async def read_pid(file: Path) -> int:
    async with asyncio.timeout(10):
        while not file.exists() or not file.read_text().strip():
            await asyncio.sleep(0.01)
    return int(file.read_text())


async def test_stopping_ends_double_forks_that_ignore_the_signal(tmp_path):
    script = "setsid bash -c 'trap \"\" TERM; echo $$ > far; sleep 63; sleep 63' & wait"
    child = await spawn(["bash", "-c", script], cwd=tmp_path, env=ENV)
    far = await read_pid(tmp_path / "far")
    async with asyncio.timeout(5):
        await child.stop(grace_seconds=0.1)
    assert child.returncode is not None
    assert not alive(far)
    await child.stop()  # again is fine


async def test_stopping_ends_those_that_emptied_their_environment(tmp_path):
    deep = "trap '' TERM; echo $$ > far; exec 0<&- 1>&- 2>&-; sleep 63; sleep 63"
    (tmp_path / "deep").write_text(deep)
    script = "(setsid env -i /bin/bash deep &) & sleep 63"
    command = ["bash", "-c", script]
    child = start_command(command, cwd=str(tmp_path), env=ENV, on_output=lambda _data: None)
    far = await read_pid(tmp_path / "far")
    assert b"TREADLE" not in Path(f"/proc/{far}/environ").read_bytes()
    async with asyncio.timeout(5):
        await child.stop(grace_seconds=0.1)
    assert not alive(far)


async def test_stopping_an_outer_tree_ends_the_trees_in_it(tmp_path):
    outer = await spawn(["sleep", "63"], cwd=tmp_path, env=ENV)
    variables = Path(f"/proc/{outer.pid}/environ").read_bytes().decode().split("\0")
    inherited = dict(entry.split("=", 1) for entry in variables if entry)
    inner = await spawn(["sleep", "63"], cwd=tmp_path, env=inherited)
    await outer.stop(grace_seconds=0.1)
    async with asyncio.timeout(5):
        assert await inner.wait() < 0


async def test_stopping_an_inner_tree_leaves_the_outer_alone(tmp_path):
    mark = tree_mark({})
    env = {**ENV, TREE_MARK: mark}
    first = await spawn(["sleep", "63"], cwd=tmp_path, env=env)
    second = await spawn(["sleep", "63"], cwd=tmp_path, env=env)
    await first.stop(grace_seconds=0.1)
    assert second.returncode is None
    assert alive(second.pid)
    await second.stop(grace_seconds=0.1)


async def test_what_cannot_be_started_says_why(tmp_path):
    with pytest.raises(SpawnError) as raised:
        await spawn(["/no/such/program"], cwd=tmp_path, env=ENV)
    assert isinstance(raised.value.__cause__, FileNotFoundError)
    assert os.strerror(2) in str(raised.value)
