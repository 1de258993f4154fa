"""Background terminals: listed, ended one by one and all at once; collaboration modes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import calls, function_call
from treadle.wire.protocol.errors import RpcError


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "memory") as lab:
        yield lab


async def terminals(client: LabClient, thread_id: str, **more: Any) -> dict[str, Any]:
    return await client.request("thread/backgroundTerminals/list", {"threadId": thread_id, **more})


async def leave_two(lab: AppLab, client: LabClient) -> str:
    """A thread whose turn left two commands running."""
    thread_id = await lab.start_thread(client)
    sleep = {"cmd": "sleep 300", "login": False, "yield_time_ms": 250}
    lab.provider.script(
        calls(function_call("exec_command", sleep, "a"), function_call("exec_command", sleep, "b"))
    )
    await lab.run_turn(client, thread_id)
    return thread_id


async def test_background_terminals_are_listed_and_ended(lab: AppLab):
    client = await lab.connect(experimental=True)
    thread_id = await leave_two(lab, client)
    first, second = (await terminals(client, thread_id))["data"]
    assert {first["itemId"], second["itemId"]} == {"a", "b"}
    assert "sleep 300" in first["command"]
    assert first["cwd"] == str(lab.work)
    assert Path(f"/proc/{first['osPid']}").exists()
    start = await terminals(client, thread_id, limit=1)
    rest = await terminals(client, thread_id, cursor=start["nextCursor"])
    assert start["data"] + rest["data"] == [first, second]

    one = {"threadId": thread_id, "processId": first["processId"]}
    ended = await client.request("thread/backgroundTerminals/terminate", one)
    assert ended == {"terminated": True}
    done = await client.until("item/completed", lambda p: p["item"]["id"] == first["itemId"])
    assert (done["item"]["status"], done["item"]["exitCode"]) == ("failed", -1)
    assert await client.request("thread/backgroundTerminals/terminate", one) == {
        "terminated": False
    }
    assert (await terminals(client, thread_id))["data"] == [second]
    await client.request("thread/backgroundTerminals/clean", {"threadId": thread_id})
    await client.until("item/completed", lambda p: p["item"]["id"] == second["itemId"])
    assert (await terminals(client, thread_id))["data"] == []


async def test_a_command_that_a_call_waits_for_is_no_background_terminal(lab: AppLab):
    client = await lab.connect(experimental=True)
    thread_id = await lab.start_thread(client)
    wait = {"cmd": "echo on; sleep 300", "login": False, "yield_time_ms": 30_000}
    lab.provider.script(calls(function_call("exec_command", wait, "a")))
    begun = await client.call("turn/start", turn(thread_id))
    await client.until("item/commandExecution/outputDelta")
    assert (await terminals(client, thread_id))["data"] == []
    await client.request("turn/interrupt", {"threadId": thread_id, "turnId": begun.turn.id})
    await client.until("turn/completed")


async def test_threads_that_are_not_loaded_have_none(lab: AppLab):
    client = await lab.connect(experimental=True)
    with pytest.raises(RpcError, match="thread not found"):
        await terminals(client, "01a1fb70-355c-7000-8000-000000000001")


async def test_the_collaboration_modes(lab: AppLab):
    client = await lab.connect(experimental=True)
    modes = (await client.request("collaborationMode/list", {}))["data"]
    assert [(mode["name"], mode["mode"]) for mode in modes] == [
        ("Plan", "plan"),
        ("Default", "default"),
    ]
    assert modes[0]["reasoning_effort"] == "medium"
