"""MCP servers: tools of the model, calls of the client, processes that do not outlive their use."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import calls, item_done, reply
from support.mcp_probe import until_gone
from treadle.engine.tools.mcp_pool import Patience
from treadle.kit.processes import spawn
from treadle.wire.client.client import Event
from treadle.wire.protocol.errors import RpcError

SCRIPT = Path(__file__).parent.parent / "support" / "mcp_server.py"
STARTUP, ASK = "mcpServer/startupStatus/updated", "mcpServer/elicitation/request"
CALL = "mcpServer/tool/call"
CAREFUL: dict[str, Any] = {"approvalPolicy": "on-request", "sandboxPolicy": {"type": "readOnly"}}


def lab_server(name: str = "lab", more: str = "") -> str:
    return (
        f'\n[mcp_servers.{name}]\ncommand = "{sys.executable}"\nargs = ["{SCRIPT}"]\n'
        f"startup_timeout_sec = 30\n{more}\n"
    )


def bare_server(name: str = "lab", more: str = "") -> str:
    args = json.dumps(["-S", "-E", str(SCRIPT.with_name("mcp_bare.py"))])
    return f'\n[mcp_servers.{name}]\ncommand = "{sys.executable}"\nargs = {args}\n{more}\n'


def missing(name: str, more: str = "") -> str:
    return f'\n[mcp_servers.{name}]\ncommand = "/no/such/server"\n{more}\n'


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "memory") as lab:
        yield lab


def configure(lab: AppLab, text: str) -> None:
    with (lab.home / "config.toml").open("a") as file:
        file.write(text)


async def settled(client: LabClient, name: str = "lab") -> dict[str, Any]:
    return await client.until(STARTUP, lambda p: p["name"] == name and p["status"] != "starting")


async def open_thread(lab: AppLab, client: LabClient, **params: Any) -> str:
    """A thread whose server is ready."""
    thread_id = await lab.start_thread(client, **params)
    status = await settled(client)
    assert status["status"] == "ready", status
    return thread_id


async def call(client: LabClient, thread_id: str, tool: str, server: str = "lab", **args: Any):
    params = {"threadId": thread_id, "server": server, "tool": tool, "arguments": args}
    return await client.request(CALL, params)


def text(result: Any) -> str:
    return result["content"][0]["text"]


def mcp_call(tool: str, arguments: Any, call_id: str, namespace: str = "mcp__lab") -> Any:
    return item_done(
        {
            "type": "function_call",
            "id": f"fc-{call_id}",
            "call_id": call_id,
            "name": tool,
            "namespace": namespace,
            "arguments": json.dumps(arguments),
        }
    )


def function(tool: str, arguments: Any, call_id: str) -> Any:
    item = {"type": "function_call", "id": f"fc-{call_id}", "call_id": call_id, "name": tool}
    return item_done({**item, "arguments": json.dumps(arguments)})


def item(client: LabClient, item_id: str, kind: str = "item/completed") -> dict[str, Any]:
    found = [e.params["item"] for e in client.heard if e.method == kind]
    [one] = [entry for entry in found if entry["id"] == item_id]
    return one


def told(lab: AppLab, call_id: str) -> str:
    for entry in lab.provider.requests[-1].body["input"]:
        if entry.get("call_id") == call_id and entry["type"].endswith("_output"):
            return json.dumps(entry["output"])
    raise AssertionError(f"no output of {call_id}")


async def asked(client: LabClient) -> Event:
    while True:
        event = await client.next_event()
        client.heard.append(event)
        if event.wants_answer:
            assert event.method == ASK
            return event


# ------------------------------------------------------------------ the model's tools


async def test_a_model_calls_tools_side_by_side_and_hears_what_they_gave(lab: AppLab):
    configure(lab, lab_server())
    lab.provider.script(
        calls(
            mcp_call("meet", {"me": "a", "other": "b"}, "c1"),
            mcp_call("meet", {"me": "b", "other": "a"}, "c2"),
            mcp_call("count", {"steps": 2}, "c3"),
            mcp_call("fail", {}, "c4"),
            mcp_call("nope", {}, "c5"),
            mcp_call("flood", {"chars": 300_000}, "c6"),
            function("list_mcp_resources", {}, "c7"),
            function("list_mcp_resource_templates", {"server": "lab"}, "c8"),
            function("read_mcp_resource", {"server": "lab", "uri": "lab://greet/you"}, "c9"),
            function("mcp__lab__add", {"a": 2, "b": 3}, "c10"),
        ),
        reply("ok"),
    )
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    # The turn waits for the server that is still starting.
    done = await lab.run_turn(client, thread_id)
    assert done["status"] == "completed"

    tools = lab.provider.requests[0].body["tools"]
    [space] = [tool for tool in tools if tool["type"] == "namespace"]
    assert (space["name"], space["description"]) == ("mcp__lab", "Tools of the lab.")
    add = next(tool for tool in space["tools"] if tool["name"] == "add")
    assert add["description"] == "Add two numbers."
    assert sorted(add["parameters"]["properties"]) == ["a", "b"]

    begun, ended = item(client, "c1", "item/started"), item(client, "c1")
    assert (begun["type"], begun["status"], begun["server"], begun["tool"]) == (
        "mcpToolCall",
        "inProgress",
        "lab",
        "meet",
    )
    assert ended["status"] == "completed"
    assert ended["result"]["content"][0]["text"] == "a met b"
    assert ended["durationMs"] >= 0
    assert "a met b" in told(lab, "c1")
    assert "b met a" in told(lab, "c2")
    assert "Wall time: " in told(lab, "c1")

    steps = [e.params for e in client.heard if e.method == "item/mcpToolCall/progress"]
    assert [(p["itemId"], p["message"]) for p in steps] == [("c3", "step 1"), ("c3", "step 2")]

    broken = item(client, "c4")
    assert (broken["status"], broken["error"]) == ("failed", None)
    assert "Error executing tool fail" in broken["result"]["content"][0]["text"]
    assert "Error executing tool fail" in told(lab, "c4")
    assert "unsupported call: mcp__lab.nope" in told(lab, "c5")
    assert 30_000 < len(told(lab, "c6")) < 60_000
    assert "lab://hello" in told(lab, "c7")
    assert "lab://greet/{who}" in told(lab, "c8")
    assert "hi you" in told(lab, "c9")
    assert item(client, "c10")["result"]["structuredContent"] == {"result": 5}


async def test_calls_are_approved_by_elicitation_remembered_per_tool_or_refused(lab: AppLab):
    configure(lab, lab_server(more='[mcp_servers.lab.tools.fail]\napproval_mode = "prompt"'))
    add = {"a": 1, "b": 2}
    client = await lab.connect()
    thread_id = await open_thread(lab, client)
    lab.provider.script(
        calls(mcp_call("add", add, "c1")),
        calls(mcp_call("add", add, "c2")),
        calls(mcp_call("fail", {}, "c3")),
        calls(mcp_call("pid", {}, "c4")),
        reply("ok"),
    )
    await client.request("turn/start", turn(thread_id, **CAREFUL))
    question = await asked(client)
    assert question.params["serverName"] == "lab"
    assert question.params["_meta"]["codex_approval_kind"] == "mcp_tool_call"
    assert question.params["_meta"]["tool_params"] == add
    client.respond(question, {"action": "accept", "_meta": {"persist": "session"}})
    # The second `add` is not asked about; the next question is another tool's.
    question = await asked(client)
    assert question.params["_meta"]["tool_name"] == "fail"
    client.respond(question, {"action": "decline"})
    await client.until("turn/completed")
    assert [item(client, c)["status"] for c in ("c1", "c2", "c4")] == ["completed"] * 3
    refused = item(client, "c3")
    assert (refused["status"], refused["result"]) == ("failed", None)
    assert refused["error"] == {"message": "user rejected MCP tool call"}

    # Nobody may be asked: what was allowed still runs, the rest fails and says why.
    lab.provider.script(calls(mcp_call("add", add, "d1"), mcp_call("fail", {}, "d2")), reply("ok"))
    await client.request("turn/start", turn(thread_id, approvalPolicy="never"))
    await client.until("turn/completed")
    assert item(client, "d1")["status"] == "completed"
    assert "approval policy is never" in item(client, "d2")["error"]["message"]
    assert "approval policy is never" in told(lab, "d2")


# ------------------------------------------------------------------ calls of the client


async def test_a_client_calls_tools_and_answers_their_questions(lab: AppLab):
    more = 'env_vars = ["HOME"]\ndisabled_tools = ["fail"]\ntool_timeout_sec = 5'
    configure(lab, lab_server(more=f'{more}\n[mcp_servers.lab.env]\nLAB_WORD = "yes"'))
    configure(lab, missing("off", "enabled = false"))
    client = await lab.connect()
    thread_id = await open_thread(lab, client, approvalPolicy="on-request")
    result = await call(client, thread_id, "add", a=1, b=2)
    assert (text(result), result["structuredContent"]) == ("3", {"result": 3})
    assert result["isError"] is False
    assert text(await call(client, thread_id, "variable", name="LAB_WORD")) == "yes"
    assert text(await call(client, thread_id, "variable", name="TREADLE_HOME")) == "unset"

    async with asyncio.TaskGroup() as group:
        answer = group.create_task(call(client, thread_id, "form"))
        question = await asked(client)
        assert question.params["turnId"] is None
        assert question.params["requestedSchema"] == {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
        }
        summary = (await client.request("thread/read", {"threadId": thread_id}))["thread"]
        assert summary["status"] == {"type": "active", "activeFlags": ["waitingOnApproval"]}
        client.respond(question, {"action": "accept", "content": {"name": "Bo"}})
    assert json.loads(text(answer.result())) == ["accept", {"name": "Bo"}]
    summary = (await client.request("thread/read", {"threadId": thread_id}))["thread"]
    assert summary["status"] == {"type": "idle"}

    for change, words in (
        ({"server": "zz"}, "unknown MCP server 'zz'"),
        ({"server": "off"}, "unknown MCP server 'off'"),
        ({"tool": "fail"}, "tool 'fail' is disabled for MCP server 'lab'"),
        ({"arguments": [1]}, "arguments must be a JSON object"),
    ):
        params = {"threadId": thread_id, "server": "lab", "tool": "add", **change}
        with pytest.raises(RpcError, match=words) as refused:
            await client.request(CALL, params)
        assert refused.value.code == -32603

    hello = {"server": "lab", "uri": "lab://hello", "threadId": thread_id}
    [part] = (await client.request("mcpServer/resource/read", hello))["contents"]
    assert part["text"] == "hello there"


async def test_the_list_tells_of_every_server_page_by_page(lab: AppLab):
    configure(lab, lab_server() + missing("broken") + missing("off", "enabled = false"))
    client = await lab.connect()
    page = await client.request("mcpServerStatus/list", {"limit": 2})
    assert [row["name"] for row in page["data"]] == ["broken", "lab"]
    broken, known = page["data"]
    assert "MCP startup failed" in broken["toolsError"]
    assert known["serverInfo"]["version"] == "1.2.3"
    assert "add" in known["tools"]
    assert [entry["uri"] for entry in known["resources"]] == ["lab://hello"]
    rest = await client.request("mcpServerStatus/list", {"cursor": page["nextCursor"]})
    assert [(row["name"], row["tools"]) for row in rest["data"]] == [("off", {})]
    assert rest["nextCursor"] is None


async def test_a_server_over_http_gets_its_token_and_a_wrong_one_is_told(lab: AppLab):
    secret = "s3cret"
    child = await spawn(
        [sys.executable, str(SCRIPT), "http", secret],
        env={"PATH": os.environ["PATH"], "TOKEN": secret},
    )
    try:
        async with asyncio.timeout(20):
            port = int(await child.stdout.readline())
        url = f'url = "http://127.0.0.1:{port}/mcp"\n'
        configure(lab, f'\n[mcp_servers.lab]\n{url}bearer_token_env_var = "LAB_TOKEN"\n')
        configure(lab, f"\n[mcp_servers.wrong]\n{url}[mcp_servers.wrong.http_headers]\n")
        configure(lab, f'Authorization = "Bearer guess"\n[mcp_servers.unset]\n{url}')
        configure(lab, 'bearer_token_env_var = "NO_TOKEN"\n')
        lab.variables["LAB_TOKEN"] = secret
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        ends = {"lab": "ready", "wrong": "failed", "unset": "failed"}
        while ends:
            status = await client.until(STARTUP, lambda p: p["status"] != "starting")
            assert status["status"] == ends.pop(status["name"]), status
            if status["name"] == "wrong":
                assert "401" in status["error"]
        rows = await client.request("mcpServerStatus/list", {"threadId": thread_id})
        by_name = {row["name"]: row for row in rows["data"]}
        assert by_name["lab"]["authStatus"] == "bearerToken"
        assert by_name["lab"]["runtimeStatus"] == "connected"
        assert "NO_TOKEN" in by_name["unset"]["toolsError"]
        assert text(await call(client, thread_id, "add", a=2, b=2)) == "4"
        assert secret not in json.dumps(rows)
    finally:
        await child.stop(0.1)


# ------------------------------------------------------------------ lives of servers


async def test_threads_share_a_server_that_ends_after_the_last_of_them(lab: AppLab):
    configure(lab, bare_server())
    lab.engine.mcp.pool()._patience = Patience(linger_seconds=0.1)
    client = await lab.connect()
    one = await open_thread(lab, client)
    two = await open_thread(lab, client)
    pid = int(text(await call(client, one, "pid")))
    assert int(text(await call(client, two, "pid"))) == pid
    assert lab.engine.mcp.pool().running == 1
    await client.request("thread/unsubscribe", {"threadId": one})
    await client.until("thread/closed")
    assert int(text(await call(client, two, "pid"))) == pid
    await client.request("thread/unsubscribe", {"threadId": two})
    await until_gone(pid)


async def test_an_idle_server_rests_and_the_next_call_wakes_it(lab: AppLab):
    configure(lab, bare_server())
    lab.engine.mcp.pool()._patience = Patience(idle_seconds=0.2)
    client = await lab.connect()
    thread_id = await open_thread(lab, client)
    pid = int(text(await call(client, thread_id, "pid")))
    await until_gone(pid)
    assert int(text(await call(client, thread_id, "pid"))) != pid


async def test_a_server_that_crashes_is_told_of_and_started_by_the_next_call(lab: AppLab):
    configure(lab, bare_server())
    client = await lab.connect()
    thread_id = await open_thread(lab, client)
    pid = int(text(await call(client, thread_id, "pid")))
    with pytest.raises(RpcError, match="ended during the call"):
        await call(client, thread_id, "crash")
    failed = await client.until(STARTUP, lambda p: p["status"] == "failed")
    assert "ended unexpectedly" in failed["error"]
    await until_gone(pid)
    assert int(text(await call(client, thread_id, "pid"))) != pid


async def test_a_server_that_ends_while_nobody_calls_is_told_of_too(lab: AppLab):
    configure(lab, bare_server())
    client = await lab.connect()
    thread_id = await open_thread(lab, client)
    pid = int(text(await call(client, thread_id, "pid")))
    os.kill(pid, signal.SIGKILL)
    await client.until(STARTUP, lambda p: p["status"] == "failed")
    assert int(text(await call(client, thread_id, "pid"))) != pid


async def test_a_call_that_takes_too_long_ends_and_an_interrupt_ends_one_at_once(lab: AppLab):
    configure(lab, bare_server(more="tool_timeout_sec = 0.5"))
    client = await lab.connect()
    thread_id = await open_thread(lab, client)
    with pytest.raises(RpcError, match=r"timed out after 0\.5 seconds"):
        await call(client, thread_id, "sleep", seconds=60)
    path = lab.home / "config.toml"
    path.write_text(path.read_text().replace("tool_timeout_sec = 0.5", ""))
    assert await client.request("config/mcpServer/reload", None) == {}
    lab.provider.script(calls(mcp_call("sleep", {"seconds": 60}, "c1")))
    await client.request("turn/start", turn(thread_id))
    await client.until("item/started", lambda p: p["item"]["type"] == "mcpToolCall")
    await client.request("turn/interrupt", {"threadId": thread_id, "turnId": ""})
    done = await client.until("turn/completed")
    assert done["turn"]["status"] == "interrupted"
    assert item(client, "c1")["status"] == "failed"


async def test_a_reload_takes_up_new_servers_with_the_next_turn(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    await lab.run_turn(client, thread_id)
    configure(lab, bare_server())
    await client.request("config/mcpServer/reload", None)
    await lab.run_turn(client, thread_id)
    first, second = (request.body["tools"] for request in lab.provider.requests)
    assert [tool["name"] for tool in first if tool["type"] == "namespace"] == []
    assert [tool["name"] for tool in second if tool["type"] == "namespace"] == ["mcp__lab"]


async def test_a_thread_does_not_start_without_a_server_it_requires(lab: AppLab):
    configure(lab, missing("needed", "required = true"))
    client = await lab.connect()
    with pytest.raises(RpcError, match=r"required MCP servers failed.*needed"):
        await lab.start_thread(client)
    assert (await client.request("thread/loaded/list", {}))["data"] == []


async def test_a_mute_server_is_given_up_after_its_time(lab: AppLab):
    mute = 'command = "sleep"\nargs = ["60"]\nstartup_timeout_sec = 0.2'
    configure(lab, f"\n[mcp_servers.mute]\n{mute}\n")
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    status = await settled(client, "mute")
    assert status["status"] == "failed"
    assert "timed out after 0.2 seconds" in status["error"]
    assert "startup_timeout_sec" in status["error"]
    done = await lab.run_turn(client, thread_id)
    assert done["status"] == "completed"


async def test_nothing_is_left_of_servers_when_treadle_is_killed(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        configure(lab, bare_server())
        client = await lab.connect()
        thread_id = await open_thread(lab, client)
        pid = int(text(await call(client, thread_id, "pid")))
        assert Path(f"/proc/{pid}").exists()
        lab.kill()
        await until_gone(pid)
