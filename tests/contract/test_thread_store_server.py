"""Threads on a server in use: the command that serves them, app-servers that share them."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab
from support.fake_provider import reply
from support.thread_store_server import StoreServer
from treadle.cli import thread_store
from treadle.domain.records import ModelItem
from treadle.engine.store.remote.server import Server, serve
from treadle.engine.store.remote.store import RemoteThreadStore
from treadle.kit.clock import SystemClock
from treadle.testing.thread_store import a_thread

HERE = "127.0.0.1:0"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOMENT = re.compile(r"\b1[0-9]{9,12}\b")


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[Server]:
    """A server in this process."""
    running = await serve(tmp_path / "near.db", HERE, SystemClock())
    yield running
    await running.stop()


# ---------------------------------------------------------------- the app-server over it


async def test_an_app_server_lists_forks_archives_and_deletes_remote_threads(
    tmp_path: Path, near: Server
) -> None:
    line = f'experimental_thread_store = {{ type = "remote", endpoint = "http://{near.address}" }}'
    async with AppLab(tmp_path, "memory", extra=line) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("first answer"), reply("forked answer"))
        await lab.run_turn(client, thread_id, "first question")
        fork = await client.request("thread/fork", {"threadId": thread_id})
        fork_id = fork["thread"]["id"]
        await lab.run_turn(client, fork_id, "forked question")
        assert "first answer" in json.dumps(lab.provider.requests[-1].body["input"])
        listed = await client.request("thread/list", {})
        assert {thread["id"] for thread in listed["data"]} == {thread_id, fork_id}
        await client.request("thread/archive", {"threadId": thread_id})
        await client.request("thread/delete", {"threadId": fork_id})
        assert (await client.request("thread/list", {}))["data"] == []
        listed = await client.request("thread/list", {"archived": True})
        assert [thread["id"] for thread in listed["data"]] == [thread_id]
        assert not list(lab.home.rglob("rollout-*"))


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--listen", "0.0.0.0:0"], "say --without-login"),
        (["--listen", "nowhere"], "is no HOST:PORT"),
        (["--database", "mysql://x"], "is no sqlite:///PATH"),
    ],
)
def test_senseless_options_are_refused(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert thread_store.run(["serve", *options]) == 2
    assert told in capsys.readouterr().err


def test_a_database_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("no database, only words " * 100)
    assert thread_store.run(["serve", "--listen", HERE, "--database", f"sqlite:///{other}"]) == 1
    assert f"{other} cannot be used as a database" in capsys.readouterr().err


async def test_a_server_that_is_told_to_stop_leaves_a_database_to_go_on_with(
    tmp_path: Path,
) -> None:
    async with StoreServer(tmp_path) as server:
        store = RemoteThreadStore(server.endpoint, SystemClock())
        created = a_thread()
        writer = await store.create(created)
        writer.append([created, ModelItem(item={"n": 1})])
        await writer.flush()
        server.child.signal_group(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await server.child.wait() == 0
        await server.start()
        writer.append([ModelItem(item={"n": 2})])
        await writer.close()
        records = await store.read_records(created.thread_id)
        assert records[1:] == [ModelItem(item={"n": 1}), ModelItem(item={"n": 2})]
        await store.close()


# ---------------------------------------------------------------- another machine


async def test_a_thread_goes_on_on_another_machine_as_if_it_had_never_moved(
    tmp_path: Path,
) -> None:
    """Home A starts it, home B (empty) resumes it; the next model request is that of a control."""
    async with StoreServer(tmp_path) as server:
        line = f'experimental_thread_store = {{ type = "remote", endpoint = "{server.endpoint}" }}'
        moved = await second_request(tmp_path / "moved", line, move=True)
        stayed = await second_request(tmp_path / "stayed", line, move=False)
    assert moved == stayed
    assert len(moved["input"]) > 3


async def second_request(top: Path, line: str, *, move: bool) -> dict[str, Any]:
    """The body of the second turn's model request, with what is fresh in every run named away."""
    top.mkdir()
    async with AppLab(top, "stdio", extra=line) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("first answer"), reply("second answer"))
        await lab.run_turn(client, thread_id, "first question")
        if move:
            await client.close()
            config = (lab.home / "config.toml").read_text()
            lab.home = top / "other-home"
            lab.home.mkdir()
            (lab.home / "config.toml").write_text(config)
            client = await lab.connect()
            await client.request("thread/resume", {"threadId": thread_id})
        await lab.run_turn(client, thread_id, "second question")
        assert not list(lab.home.rglob("rollout-*"))
        return told_alike(lab.provider.requests[-1].body, str(top))


def told_alike(body: dict[str, Any], top: str) -> dict[str, Any]:
    """The body with fresh ids numbered in the order they come, and times left out."""
    text = json.dumps(body, sort_keys=True).replace(top, "TOP")
    seen: dict[str, str] = {}
    text = ID.sub(lambda found: seen.setdefault(found[0], f"id-{len(seen)}"), text)
    return json.loads(MOMENT.sub("MOMENT", text))
