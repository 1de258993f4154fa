"""An interrupt is settled within five seconds whatever the turn does; background commands stay."""

import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, calls, created, function_call, item_done, message

SCRIPT = Path(__file__).parent.parent / "support" / "mcp_bare.py"
SLEEP = json.dumps({"seconds": 66})
STUBBORN = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 64; sleep 64' &); echo up; sleep 64"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "memory") as lab:
        yield lab


def command(script: str, call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return function_call("exec_command", {"cmd": script, "login": False, **more}, call_id)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


async def interrupt(client: LabClient, thread_id: str) -> tuple[dict[str, Any], float]:
    """Interrupt the turn twice; the ended turn, and how long that took."""
    started = time.monotonic()
    asked = {"threadId": thread_id, "turnId": ""}
    assert await client.request("turn/interrupt", asked) == {}
    assert await client.request("turn/interrupt", asked) == {}
    done = await client.until("turn/completed")
    return done["turn"], time.monotonic() - started


@pytest.mark.parametrize("state", ["silent", "streaming", "stubborn tool", "approval", "mcp call"])
async def test_an_interrupt_is_settled_soon_in_every_state(lab: AppLab, state: str):
    args = json.dumps(["-S", "-E", str(SCRIPT)])
    server = f'\n[mcp_servers.lab]\ncommand = "{sys.executable}"\nargs = {args}\n'
    with (lab.home / "config.toml").open("a") as file:
        file.write(server if state == "mcp call" else "")
    sleepy = {"type": "function_call", "namespace": "mcp__lab", "name": "sleep"}
    sleepy |= {"call_id": "m1", "arguments": SLEEP}
    step, sign, more = {
        "silent": (Step([], hang=True), "turn/started", {}),
        "streaming": (
            Step([created(), *message("half a word")[:2]], hang=True),
            "item/agentMessage/delta",
            {},
        ),
        "stubborn tool": (calls(command(STUBBORN)), "item/commandExecution/outputDelta", {}),
        "approval": (
            calls(command("touch a.txt")),
            "item/commandExecution/requestApproval",
            {"approvalPolicy": "untrusted"},
        ),
        "mcp call": (
            calls(item_done({**sleepy, "call_id": "m1", "arguments": SLEEP})),
            "item/started",
            {},
        ),
    }[state]
    lab.provider.script(step)
    client = await lab.connect()
    thread_id = await lab.start_thread(client, model="gpt-5.5")
    await client.request("turn/start", turn(thread_id, **more))
    await client.until(sign, lambda p: sign != "item/started" or p["item"]["type"] == "mcpToolCall")
    ended, seconds = await interrupt(client, thread_id)
    assert ended["status"] == "interrupted"
    assert seconds < 5
    begun = {e.params["item"]["id"] for e in client.heard if e.method == "item/started"}
    done = [e.params["item"]["id"] for e in client.heard if e.method == "item/completed"]
    words = {i for i in begun if i.startswith("msg")}  # half a message is never completed
    assert sorted(begun - words) == sorted(done)
    assert (await lab.run_turn(client, thread_id, "go on"))["status"] == "completed"


async def test_background_commands_are_listed_survive_an_interrupt_and_are_ended_by_hand(
    lab: AppLab,
):
    begin = [command(f"echo $$ > p{n}; sleep 65", f"c{n}", yield_time_ms=250) for n in (1, 2)]
    lab.provider.script(calls(*begin), Step([created()], hang=True))
    client = await lab.connect(experimental=True)
    thread_id = await lab.start_thread(client, model="gpt-5.5")
    named = {"threadId": thread_id}
    await client.request("turn/start", turn(thread_id))
    await lab.provider.wait_requests(2)
    ended, _ = await interrupt(client, thread_id)
    assert ended["status"] == "interrupted"

    pids = [int((lab.work / f"p{n}").read_text()) for n in (1, 2)]
    listed = await client.request("thread/backgroundTerminals/list", named)
    assert [entry["osPid"] for entry in listed["data"]] == pids
    assert [entry["itemId"] for entry in listed["data"]] == ["c1", "c2"]
    assert listed["data"][0]["cwd"] == str(lab.work)
    page = await client.request("thread/backgroundTerminals/list", {**named, "limit": 1})
    assert (len(page["data"]), page["nextCursor"]) == (1, "1")
    assert all(map(alive, pids))

    first = {**named, "processId": listed["data"][0]["processId"]}
    ended_one = await client.request("thread/backgroundTerminals/terminate", first)
    assert ended_one == {"terminated": True}
    done = await client.until("item/completed", lambda p: p["item"]["id"] == "c1")
    assert (done["item"]["status"], done["item"]["exitCode"]) == ("failed", -1)
    again = await client.request("thread/backgroundTerminals/terminate", first)
    assert again == {"terminated": False}
    assert [alive(pid) for pid in pids] == [False, True]

    assert await client.request("thread/backgroundTerminals/clean", named) == {}
    assert not alive(pids[1])
    assert (await client.request("thread/backgroundTerminals/list", named))["data"] == []
