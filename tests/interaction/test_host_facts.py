"""What clients ask of the machine at start: providers, profiles, diagnostics, git."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from treadle import InProcessOptions, InProcessServer, RpcError

CONFIG = """
model_provider = "mine"
[model_providers.mine]
name = "Mine"
base_url = "http://127.0.0.1:9/v1"
experimental_bearer_token = "of-a-test"
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[InProcessServer]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(CONFIG)
    async with InProcessServer(InProcessOptions(home=str(home))) as server:
        yield server


async def test_providers_are_listed_without_their_secrets(server: InProcessServer) -> None:
    listed = await server.request("modelProvider/list", {})
    assert (listed["defaultProviderId"], listed["canChangeDefault"]) == ("mine", True)
    assert [(each["id"], each["canEdit"]) for each in listed["data"]] == [
        ("mine", True),
        ("openai", False),
    ]
    assert "of-a-test" not in str(listed)
    able = await server.request("modelProvider/capabilities/read", {})
    assert (able["webSearch"], able["imageGeneration"]) == (True, True)


async def test_permission_profiles_come_in_pages(server: InProcessServer) -> None:
    first = await server.request("permissionProfile/list", {"limit": 2})
    assert [each["id"] for each in first["data"]] == [":read-only", ":workspace"]
    rest = await server.request("permissionProfile/list", {"cursor": first["nextCursor"]})
    assert rest == {
        "data": [{"id": ":danger-full-access", "description": None, "allowed": True}],
        "nextCursor": None,
    }
    with pytest.raises(RpcError, match="invalid cursor: x"):
        await server.request("permissionProfile/list", {"cursor": "x"})


async def test_diagnostics_tell_of_this_process(server: InProcessServer) -> None:
    await server.request("thread/start", {})
    told = await server.request("server/diagnostics", {})
    assert told["process"]["id"] == os.getpid()
    assert told["process"]["residentMemoryBytes"] > 1_000_000
    gauges = {gauge["name"]: gauge["value"] for gauge in told["gauges"]}
    assert gauges == {
        "app.threads.loaded": 1,
        "app.threads.resting": 0,
        "app.turns.running": 0,
    }
    assert await server.request("mock/experimentalMethod", {"value": "x"}) == {"echoed": "x"}


def git(folder: Path, *arguments: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", *name, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


async def test_the_diff_to_the_remote_has_commits_edits_and_new_files(
    server: InProcessServer, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    params = {"cwd": str(work)}
    with pytest.raises(RpcError, match="failed to compute git diff to remote"):
        await server.request("gitDiffToRemote", params)
    (work / "f.txt").write_text("one\n")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "first")
    with pytest.raises(RpcError, match="failed to compute git diff to remote"):
        await server.request("gitDiffToRemote", params)
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(work, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(work, "push", "-q", "-u", "origin", "main")
    commit = git(work, "rev-parse", "HEAD")
    assert await server.request("gitDiffToRemote", params) == {"sha": commit, "diff": ""}
    git(work, "checkout", "-q", "-b", "feature")
    (work / "f.txt").write_text("one\ntwo\n")
    git(work, "commit", "-qam", "second")
    (work / "f.txt").write_text("one\ntwo\nthree\n")
    (work / "new file.txt").write_text("new\n")
    answer = await server.request("gitDiffToRemote", params)
    assert answer["sha"] == commit
    lines = {line.rstrip() for line in answer["diff"].splitlines()}
    assert {"+two", "+three", "+++ b/new file.txt", "+new"} <= lines
