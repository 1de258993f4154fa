"""Requests to the client besides approvals: its own tools, forms, permissions."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, calls, custom_tool_call, event, function_call
from treadle.wire.client.client import Event
from treadle.wire.protocol.errors import RpcError

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}}
LOOKUP = {
    "type": "function",
    "name": "lookup",
    "description": "Look up a ticket",
    "inputSchema": SCHEMA,
}
SPACE = {"type": "namespace", "name": "desk", "description": "The desk", "tools": [LOOKUP]}
PLAN_MODE = {
    "collaborationMode": {
        "mode": "plan",
        "settings": {
            "model": "mock-model",
            "reasoning_effort": None,
            "developer_instructions": None,
        },
    }
}
FORM = {
    "questions": [
        {
            "id": "color",
            "header": "Color",
            "question": "Which one?",
            "options": [{"label": "Red", "description": "warm"}],
        }
    ]
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "memory") as lab:
        yield lab


async def begin(lab: AppLab, *steps: Any, more: dict[str, Any] | None = None, **start: Any):
    """A client whose turn runs these steps."""
    lab.provider.script(*steps)
    client = await lab.connect(experimental=True)
    thread_id = await lab.start_thread(client, **start)
    await client.request("turn/start", turn(thread_id, **(more or {})))
    return client


async def asked(client: LabClient, method: str) -> Event:
    while True:
        heard = await client.next_event()
        client.heard.append(heard)
        if heard.wants_answer:
            assert heard.method == method
            return heard


def item(client: LabClient, item_id: str) -> dict[str, Any]:
    found = [e.params["item"] for e in client.heard if e.method == "item/completed"]
    [one] = [entry for entry in found if entry["id"] == item_id]
    return one


def output(lab: AppLab, call_id: str, request: int = -1) -> Any:
    for entry in lab.provider.requests[request].body["input"]:
        if entry.get("call_id") == call_id and entry["type"].endswith("_output"):
            return entry["output"]
    raise AssertionError(f"no output of {call_id}")


# ------------------------------------------------------------------ the client's own tools


async def test_client_carries_out_its_tool_and_the_model_reads_the_answer(lab: AppLab):
    client = await begin(
        lab, calls(function_call("lookup", {"id": "T-1"}, "d1")), dynamicTools=[LOOKUP]
    )
    question = await asked(client, "item/tool/call")
    assert question.params["arguments"] == {"id": "T-1"}
    assert question.params["callId"] == "d1"
    content = [{"type": "inputText", "text": "Ticket open"}]
    client.respond(question, {"contentItems": content, "success": True})
    await client.until("turn/completed")
    done = item(client, "d1")
    assert (done["status"], done["success"], done["contentItems"]) == ("completed", True, content)
    assert output(lab, "d1") == "Ticket open"
    [spec] = [t for t in lab.provider.requests[0].body["tools"] if t["name"] == "lookup"]
    assert spec["parameters"] == SCHEMA


async def test_tool_of_a_namespace_answers_with_several_parts(lab: AppLab):
    call = function_call("lookup", {}, "d1")
    call["item"]["namespace"] = "desk"
    client = await begin(lab, calls(call), dynamicTools=[SPACE])
    question = await asked(client, "item/tool/call")
    assert question.params["namespace"] == "desk"
    parts = [
        {"type": "inputText", "text": "one"},
        {"type": "inputImage", "imageUrl": "data:image/png;base64,AA=="},
    ]
    client.respond(question, {"contentItems": parts, "success": False})
    await client.until("turn/completed")
    assert item(client, "d1")["status"] == "failed"
    assert [part["type"] for part in output(lab, "d1")] == ["input_text", "input_image"]


async def test_nonsense_from_the_client_is_told_to_the_model(lab: AppLab):
    client = await begin(lab, calls(function_call("lookup", {}, "d1")), dynamicTools=[LOOKUP])
    client.respond(await asked(client, "item/tool/call"), {"text": "Ticket open"})
    await client.until("turn/completed")
    assert item(client, "d1")["status"] == "failed"
    assert output(lab, "d1") == "dynamic tool response was invalid"


async def test_interrupted_call_of_the_client_is_a_failed_item(lab: AppLab):
    client = await begin(lab, calls(function_call("lookup", {}, "d1")), dynamicTools=[LOOKUP])
    question = await asked(client, "item/tool/call")
    ids = {"threadId": question.params["threadId"], "turnId": question.params["turnId"]}
    await client.request("turn/interrupt", ids)
    done = await client.until("turn/completed")
    assert done["turn"]["status"] == "interrupted"
    assert item(client, "d1")["status"] == "failed"


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        ([LOOKUP, LOOKUP], "duplicate dynamic tool name: lookup"),
        ([SPACE, SPACE], "duplicate dynamic tool namespace: desk"),
        ([{**LOOKUP, "name": ""}], "dynamic tool name must not be empty"),
        ([{**LOOKUP, "name": "a b"}], "must match ^[a-zA-Z0-9_-]+$ to match Responses API: a b"),
        ([{**LOOKUP, "name": "mcp__x"}], "dynamic tool name is reserved: mcp__x"),
        ([{**LOOKUP, "deferLoading": True}], "deferred dynamic tool must include a namespace"),
        ([{**LOOKUP, "inputSchema": None}], "input schema is not supported for lookup"),
        ([{**SPACE, "tools": []}], "must contain at least one tool: desk"),
        ([{**SPACE, "name": "functions"}], "reserved Responses API namespace: functions"),
        ([{**LOOKUP, "type": "zz"}], "unknown variant `zz`"),
    ],
)
async def test_badly_declared_tool_is_refused(lab: AppLab, tools: list[Any], problem: str):
    client = await lab.connect(experimental=True)
    with pytest.raises(RpcError) as refused:
        await lab.start_thread(client, dynamicTools=tools)
    assert problem in refused.value.message
    assert refused.value.code == -32600


# ------------------------------------------------------------------ forms


async def test_answers_of_the_user_go_to_the_model_as_they_are(lab: AppLab):
    client = await begin(
        lab, calls(function_call("request_user_input", FORM, "q1")), more=PLAN_MODE
    )
    question = await asked(client, "item/tool/requestUserInput")
    assert [entry["id"] for entry in question.params["questions"]] == ["color"]
    assert question.params["isBlocking"] is True
    answers = {"answers": {"color": {"answers": ["Red"]}}}
    client.respond(question, answers)
    await client.until("turn/completed")
    assert msgspec.json.decode(output(lab, "q1")) == answers
    flags = [
        e.params["status"].get("activeFlags")
        for e in client.heard
        if e.method == "thread/status/changed"
    ]
    assert flags == [[], ["waitingOnUserInput"], [], None]


async def test_form_that_nobody_answers_is_empty(lab: AppLab):
    client = await begin(
        lab, calls(function_call("request_user_input", FORM, "q1")), more=PLAN_MODE
    )
    client.fail(await asked(client, "item/tool/requestUserInput"), "nobody here")
    await client.until("turn/completed")
    assert msgspec.json.decode(output(lab, "q1")) == {"answers": {}}


async def test_default_mode_asks_no_form(lab: AppLab):
    client = await begin(lab, calls(function_call("request_user_input", FORM, "q1")))
    await client.until("turn/completed")
    assert output(lab, "q1") == "request_user_input is unavailable in Default mode"


# ------------------------------------------------------------------ permissions


@pytest.mark.parametrize(("scope", "second"), [("turn", False), ("session", True)])
async def test_granted_folder_can_be_written_for_as_long_as_granted(
    tmp_path: Path, scope: str, second: bool
):
    feature = "[features]\nrequest_permissions_tool = true\n"
    async with AppLab(tmp_path, "memory", extra=feature) as lab:
        extra = lab.top / "extra"
        extra.mkdir()
        sandbox = {
            "type": "workspaceWrite",
            "writableRoots": [],
            "networkAccess": False,
            "excludeSlashTmp": True,
            "excludeTmpdirEnvVar": True,
        }
        wanted = {"reason": "need it", "permissions": {"file_system": {"write": [str(extra)]}}}

        def write(name: str, call_id: str):
            script = {"cmd": f"echo x > {extra}/{name}", "login": False}
            return calls(function_call("exec_command", script, call_id))

        policy = {"approvalPolicy": "on-request", "sandboxPolicy": sandbox}
        ask = calls(function_call("request_permissions", wanted, "r1"))
        client = await begin(lab, ask, write("one", "c1"), more=policy)
        question = await asked(client, "item/permissions/requestApproval")
        assert question.params["permissions"]["fileSystem"]["write"] == [str(extra)]
        more = {"fileSystem": {"write": [str(extra), "/"]}, "network": {"enabled": True}}
        client.respond(question, {"permissions": more, "scope": scope})
        await client.until("turn/completed")
        told = msgspec.json.decode(output(lab, "r1"))
        assert told == {"permissions": {"file_system": {"write": [str(extra)]}}, "scope": scope}
        lab.provider.script(write("two", "c2"))
        await lab.run_turn(client, question.params["threadId"])
        assert [(extra / name).exists() for name in ("one", "two")] == [True, second]


# ------------------------------------------------------------------ the provider's shell tool


async def test_shell_call_of_the_provider_runs_like_ours(lab: AppLab):
    call = event(
        "response.output_item.done",
        item={
            "type": "local_shell_call",
            "call_id": "c1",
            "status": "completed",
            "action": {"type": "exec", "command": ["echo", "hey"], "timeout_ms": 5000},
        },
    )
    client = await begin(lab, calls(call))
    await client.until("turn/completed")
    done = item(client, "c1")
    assert (done["command"], done["status"], done["aggregatedOutput"]) == (
        "echo hey",
        "completed",
        "hey\n",
    )
    assert "hey" in output(lab, "c1")


# ------------------------------------------------------------------ nobody there


async def unattended(lab: AppLab, *steps: Any, more: dict[str, Any], **start: Any):
    """A client that starts a turn of these steps and watches it no more; the ended turn."""
    held = asyncio.Event()
    lab.provider.script(Step([held, *steps[0].events]), *steps[1:])
    client = await lab.connect(experimental=True)
    thread_id = await lab.start_thread(client, **start)
    await client.request("turn/start", turn(thread_id, **more))
    await client.request("thread/unsubscribe", {"threadId": thread_id})
    held.set()
    async with asyncio.timeout(10):
        await client.until("thread/closed")
    wanted = {"threadId": thread_id, "includeTurns": True}
    read = await client.request("thread/read", wanted)
    wanted = {"threadId": thread_id, "includeSettled": True}
    settled = (await client.request("approval/list", wanted))["data"]
    return read["thread"]["turns"][0], settled


async def test_a_clients_tool_that_nobody_can_carry_out_fails_at_once(lab: AppLab):
    step = calls(function_call("lookup", {"id": "7"}, "d1"))
    ended, _ = await unattended(lab, step, more={}, dynamicTools=[LOOKUP])
    assert ended["status"] == "completed"
    assert output(lab, "d1") == (
        "the tool was not carried out: no client is connected that could answer"
    )


async def test_without_anybody_policy_settles_every_kind_and_keeps_the_reason(tmp_path: Path):
    """Where configured so; otherwise what outlives a restart waits for a client to come."""
    extra = 'approval_unattended = "settle"\n[features]\nrequest_permissions_tool = true'
    async with AppLab(tmp_path, "memory", extra=extra) as lab:
        patch = "*** Begin Patch\n*** Add File: a.txt\n+one\n*** End Patch"
        step = calls(
            function_call("exec_command", {"cmd": "touch b.txt", "login": False}, "c1"),
            custom_tool_call("apply_patch", patch, "p1"),
            function_call(
                "request_permissions", {"permissions": {"network": {"enabled": True}}}, "g1"
            ),
            function_call("request_user_input", FORM, "f1"),
        )
        policy = {"approvalPolicy": "untrusted", "sandboxPolicy": {"type": "dangerFullAccess"}}
        ended, settled = await unattended(lab, step, more={**policy, **PLAN_MODE}, model="gpt-5.5")
        assert ended["status"] == "completed"
        assert {entry["itemId"] for entry in settled} == {"c1", "p1", "g1", "f1"}
        assert {entry["by"] for entry in settled} == {"policy"}
        assert {entry["reason"] for entry in settled} == {
            "no client is connected that could answer"
        }
        items = {entry["id"]: entry for entry in ended["items"]}
        assert (items["c1"]["status"], items["p1"]["status"]) == ("declined", "declined")
        told = [output(lab, call_id) for call_id in ("c1", "p1", "g1", "f1")]
        assert "user" not in "".join(told)
        assert not (lab.work / "a.txt").exists()
        assert not (lab.work / "b.txt").exists()
