"""Sub-agents: spawned by a model, commanded by it, seen by clients, kept in the log."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, calls, created, function_call, message, reply


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "memory") as lab:
        yield lab


def spawn(call_id: str = "s1", text: str = "look around", **more: Any) -> dict[str, Any]:
    return function_call("spawn_agent", {"message": text, **more}, call_id)


def output(lab: AppLab, call_id: str) -> Any:
    """What the model was told by a call, as JSON where it is some."""
    for request in reversed(lab.provider.requests):
        for entry in request.body["input"]:
            if entry.get("call_id") == call_id and entry["type"] == "function_call_output":
                text = entry["output"]
                return json.loads(text) if text.startswith("{") else text
    raise LookupError(f"no output of {call_id}")


async def told(lab: AppLab, call_id: str) -> Any:
    """As `output`, once the model was told it."""
    while True:
        with contextlib.suppress(LookupError):
            return output(lab, call_id)
        await lab.provider.wait_requests(len(lab.provider.requests) + 1)


def item(client: LabClient, item_id: str) -> dict[str, Any]:
    found = [e.params["item"] for e in client.heard if e.method == "item/completed"]
    [one] = [entry for entry in found if entry["id"] == item_id]
    return one


async def spawn_one(lab: AppLab, client: LabClient, thread_id: str, *answers: Step) -> str:
    """Let the parent spawn one agent that works until it is done; the agent's id."""
    lab.provider.script_agents(*(answers or (reply("child done"),)))
    lab.provider.script(calls(spawn()))
    await client.request("turn/start", turn(thread_id, "delegate"))
    ended: set[str] = set()
    while not {thread_id} < ended:
        ended.add((await client.until("turn/completed"))["threadId"])
    return output(lab, "s1")["agent_id"]


async def run(lab: AppLab, client: LabClient, thread_id: str, *events: dict[str, Any]) -> None:
    """Run a turn of the parent in which it makes one call after the other."""
    lab.provider.script(*(calls(event) for event in events))
    await client.request("turn/start", turn(thread_id))
    await client.until("turn/completed", lambda p: p["threadId"] == thread_id)


async def test_an_agent_works_beside_its_parent_and_its_end_is_told(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client, developerInstructions="Mind the gap.")
    agent_id = await spawn_one(lab, client, thread_id)
    shown = item(client, "s1")
    assert shown["tool"] == "spawnAgent"
    assert shown["status"] == "completed"
    assert shown["receiverThreadIds"] == [agent_id]
    assert shown["agentsStates"] == {agent_id: {"status": "pendingInit", "message": None}}
    [asked] = [r for r in lab.provider.requests if "x-openai-subagent" in r.headers]
    assert asked.headers["x-codex-parent-thread-id"] == thread_id
    assert asked.headers["session-id"] == thread_id
    assert asked.headers["thread-id"] == agent_id
    assert "Mind the gap." in json.dumps(asked.body["input"])
    read = (await client.request("thread/read", {"threadId": agent_id}))["thread"]
    assert read["parentThreadId"] == thread_id
    assert read["sessionId"] == thread_id
    assert read["source"]["subAgent"]["thread_spawn"]["depth"] == 1
    assert read["agentNickname"] == output(lab, "s1")["nickname"]
    listed = await client.request("thread/list", {"parentThreadId": thread_id})
    assert [t["id"] for t in listed["data"]] == [agent_id]
    assert [t["id"] for t in (await client.request("thread/list", {}))["data"]] == [thread_id]
    await lab.run_turn(client, thread_id)
    told = json.dumps(lab.provider.requests[-1].body["input"])
    assert "<subagent_notification>" in told
    assert "child done" in told


async def test_wait_answers_when_the_agent_is_done(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    gate = asyncio.Event()
    lab.provider.script_agents(Step([created(), gate, *reply("found it").events[1:]]))
    lab.provider.script(calls(spawn()))
    await client.request("turn/start", turn(thread_id))
    await client.until("turn/completed", lambda p: p["threadId"] == thread_id)
    agent_id = output(lab, "s1")["agent_id"]
    lab.provider.script(calls(function_call("wait_agent", {"targets": [agent_id]}, "w1")))
    await client.request("turn/start", turn(thread_id, "wait"))
    await client.until("item/started", lambda p: p["item"]["id"] == "w1")
    gate.set()
    await client.until("turn/completed", lambda p: p["threadId"] == thread_id)
    assert output(lab, "w1") == {
        "status": {agent_id: {"completed": "found it"}},
        "timed_out": False,
    }
    assert item(client, "w1")["agentsStates"] == {
        agent_id: {"status": "completed", "message": "found it"}
    }


async def test_messages_close_and_resume(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    agent_id = await spawn_one(lab, client, thread_id)
    lab.provider.script_agents(reply("more"))
    to = {"target": agent_id, "message": "go on"}
    await run(
        lab,
        client,
        thread_id,
        function_call("send_input", to, "a"),
        function_call("wait_agent", {"targets": [agent_id]}, "b"),
        function_call("close_agent", {"target": agent_id}, "c"),
        function_call("send_input", to, "d"),
        function_call("resume_agent", {"id": agent_id}, "e"),
    )
    assert set(output(lab, "a")) == {"submission_id"}
    assert output(lab, "b")["status"] == {agent_id: {"completed": "more"}}
    assert output(lab, "c") == {"previous_status": {"completed": "more"}}
    assert output(lab, "d") == f"agent with id {agent_id} not found"
    assert output(lab, "e") == {"status": "pending_init"}
    assert item(client, "d")["status"] == "failed"
    assert item(client, "d")["agentsStates"] == {agent_id: {"status": "notFound", "message": None}}
    unloaded = [
        e.params["threadId"]
        for e in client.heard
        if e.method == "thread/status/changed" and e.params["status"]["type"] == "notLoaded"
    ]
    assert unloaded == [agent_id]
    lab.provider.script_agents(reply("again"))
    await run(
        lab,
        client,
        thread_id,
        function_call("send_input", to, "f"),
        function_call("wait_agent", {"targets": [agent_id]}, "g"),
    )
    assert output(lab, "g")["status"] == {agent_id: {"completed": "again"}}
    asked = json.dumps(lab.provider.requests[-2].body["input"])
    assert asked.index("look around") < asked.index("go on")


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("spawn_agent", {}, "Provide one of: message or items"),
        ("spawn_agent", {"message": " "}, "Empty message can't be sent to an agent"),
        ("spawn_agent", {"message": "x", "agent_type": "odd"}, "unknown agent_type 'odd'"),
        ("wait_agent", {"targets": []}, "agent ids must be non-empty"),
        ("close_agent", {"target": "nope"}, "invalid agent id nope"),
        ("send_input", {"target": 1}, "failed to parse function arguments"),
    ],
)
async def test_bad_calls_are_told_to_the_model(
    lab: AppLab, name: str, arguments: dict[str, Any], told: str
):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    await run(lab, client, thread_id, function_call(name, arguments, "x"))
    assert told in output(lab, "x")


async def test_an_agent_commands_only_its_own(lab: AppLab):
    client = await lab.connect()
    stranger = await lab.start_thread(client)
    await lab.run_turn(client, stranger)
    thread_id = await lab.start_thread(client)
    await run(
        lab,
        client,
        thread_id,
        function_call("close_agent", {"target": stranger}, "x"),
        function_call("wait_agent", {"targets": [stranger]}, "y"),
        function_call("resume_agent", {"id": stranger}, "z"),
    )
    assert output(lab, "x") == output(lab, "z") == f"agent with id {stranger} not found"
    assert output(lab, "y") == {"status": {stranger: "not_found"}, "timed_out": False}
    assert item(client, "y")["status"] == "failed"


async def test_depth_and_number_are_limited(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        with (lab.home / "config.toml").open("a") as file:
            file.write("[agents]\nmax_threads = 2\n")
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script_agents()
        await run(lab, client, thread_id, spawn("a"), spawn("b"), spawn("c"))
        assert "agent_id" in output(lab, "b")
        assert "agent thread limit reached" in output(lab, "c")
        closing = function_call("close_agent", {"target": output(lab, "a")["agent_id"]}, "d")
        await run(lab, client, thread_id, closing, spawn("e"))
        assert "agent_id" in output(lab, "e")
        children = [r for r in lab.provider.requests if "x-openai-subagent" in r.headers]
        names = {tool.get("name") for tool in children[0].body["tools"]}
        assert "exec_command" in names
        assert "spawn_agent" not in names


async def test_a_fork_knows_what_its_parent_knew(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    await lab.run_turn(client, thread_id, "remember the blue door")
    lab.provider.script_agents(reply("yes"))
    await run(lab, client, thread_id, spawn(text="which door?", fork_context=True))
    await lab.provider.wait_requests(4)
    [asked] = [r.body for r in lab.provider.requests if "x-openai-subagent" in r.headers]
    texts = json.dumps(asked["input"])
    assert texts.index("remember the blue door") < texts.index("which door?")
    assert not [entry for entry in asked["input"] if entry["type"] == "function_call"]


async def test_the_parents_interrupt_reaches_its_agents(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    lab.provider.script_agents(Step([created()], hang=True))
    lab.provider.script(calls(spawn()), Step([created()], hang=True))
    begun = await client.call("turn/start", turn(thread_id))
    await lab.provider.wait_requests(3)
    await client.request("turn/interrupt", {"threadId": thread_id, "turnId": begun.turn.id})
    ended: dict[str, str] = {}
    for _ in range(2):
        done = await client.until("turn/completed")
        ended[done["threadId"]] = done["turn"]["status"]
    assert list(ended.values()) == ["interrupted", "interrupted"]
    assert next(iter(ended)) == thread_id


async def test_an_interrupted_wait_completes_its_item(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    lab.provider.script_agents(Step([created()], hang=True))
    lab.provider.script(calls(spawn()))
    await client.request("turn/start", turn(thread_id))
    await client.until("turn/completed", lambda p: p["threadId"] == thread_id)
    agent_id = output(lab, "s1")["agent_id"]
    lab.provider.script(calls(function_call("wait_agent", {"targets": [agent_id]}, "w")))
    begun = await client.call("turn/start", turn(thread_id))
    await client.until("item/started", lambda p: p["item"]["id"] == "w")
    await client.request("turn/interrupt", {"threadId": thread_id, "turnId": begun.turn.id})
    await client.until("turn/completed", lambda p: p["threadId"] == agent_id)
    assert item(client, "w")["status"] == "failed"
    assert (await lab.run_turn(client, thread_id))["status"] == "completed"


async def test_an_agents_question_reaches_who_watches_the_parent(lab: AppLab):
    client, late = await lab.connect(), await lab.connect()
    thread_id = await lab.start_thread(client, approvalPolicy="untrusted")
    asking = calls(function_call("exec_command", {"cmd": "touch here", "login": False}, "q"))
    lab.provider.script_agents(asking, reply("did it"))
    lab.provider.script(calls(spawn()))
    await client.request("turn/start", turn(thread_id))
    asked = await _question(client)
    agent_id = asked.params["threadId"]
    assert agent_id != thread_id
    await late.request("thread/resume", {"threadId": thread_id})
    again = await _question(late)
    assert (again.raw_id, again.params["threadId"]) == (asked.raw_id, agent_id)
    late.respond(again, {"decision": "accept"})
    await client.until("turn/completed", lambda p: p["threadId"] == agent_id)
    assert (lab.work / "here").exists()


async def _question(client: LabClient) -> Any:
    while True:
        event = await client.next_event()
        client.heard.append(event)
        if event.wants_answer:
            return event


async def test_agents_leave_with_their_parent_and_are_archived_with_it(lab: AppLab):
    client = await lab.connect()
    thread_id = await lab.start_thread(client)
    agent_id = await spawn_one(lab, client, thread_id)
    await client.request("thread/archive", {"threadId": thread_id})
    archived = [(await client.until("thread/archived"))["threadId"] for _ in range(2)]
    assert archived == [thread_id, agent_id]
    assert (await client.request("thread/loaded/list", {}))["data"] == []
    await client.request("thread/unarchive", {"threadId": thread_id})
    back = [(await client.until("thread/unarchived"))["threadId"] for _ in range(2)]
    assert sorted(back) == sorted([thread_id, agent_id])


async def test_an_unwatched_parent_stays_while_its_agent_works(lab: AppLab):
    client, other = await lab.connect(), await lab.connect()
    thread_id = await lab.start_thread(client)
    gate = asyncio.Event()
    lab.provider.script_agents(Step([created(), gate, *message("late"), *reply().events[-1:]]))
    lab.provider.script(calls(spawn()))
    await client.request("turn/start", turn(thread_id))
    await client.until("turn/completed", lambda p: p["threadId"] == thread_id)
    agent_id = output(lab, "s1")["agent_id"]
    for each in (thread_id, agent_id):
        await client.request("thread/unsubscribe", {"threadId": each})
    await other.settle()
    loaded = (await other.request("thread/loaded/list", {}))["data"]
    assert sorted(loaded) == sorted([thread_id, agent_id])
    gate.set()
    await other.until("thread/closed", lambda p: p["threadId"] == thread_id)
    read = await other.request("thread/read", {"threadId": agent_id, "includeTurns": True})
    assert read["thread"]["turns"][-1]["status"] == "completed"


async def test_a_resumed_parent_knows_its_agents(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        done = await spawn_one(lab, client, thread_id)
        lab.provider.script_agents(Step([created(), *message("half")[:2]], hang=True))
        lab.provider.script(calls(spawn("s2")), Step([created()], hang=True))
        await client.request("turn/start", turn(thread_id))
        await client.until("item/agentMessage/delta", lambda p: p["delta"] == "half")
        cut = (await told(lab, "s2"))["agent_id"]
        lab.kill()

        again = await lab.connect()
        await again.request("thread/resume", {"threadId": thread_id})
        lab.provider.script_agents(reply("alive"))
        await run(
            lab,
            again,
            thread_id,
            function_call("wait_agent", {"targets": [done, cut]}, "w"),
            function_call("send_input", {"target": cut, "message": "once more"}, "m"),
            function_call("wait_agent", {"targets": [cut]}, "v"),
        )
        assert output(lab, "w")["status"] == {done: {"completed": "child done"}, cut: "interrupted"}
        assert output(lab, "v")["status"] == {cut: {"completed": "alive"}}
        read = await again.request("thread/read", {"threadId": cut, "includeTurns": True})
        turns = read["thread"]["turns"]
        assert [each["status"] for each in turns] == ["interrupted", "completed"]


async def test_an_agents_open_question_is_asked_again_after_a_restart(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client, approvalPolicy="untrusted")
        asking = calls(function_call("exec_command", {"cmd": "touch here", "login": False}, "q"))
        lab.provider.script_agents(asking, reply("did it"))
        lab.provider.script(calls(spawn()))
        await client.request("turn/start", turn(thread_id))
        agent_id = (await _question(client)).params["threadId"]
        await client.settle()
        lab.kill()

        again = await lab.connect()
        await again.request("thread/resume", {"threadId": thread_id})
        asked = await _question(again)
        assert asked.params["threadId"] == agent_id
        again.respond(asked, {"decision": "accept"})
        done = await again.until("turn/completed", lambda p: p["threadId"] == agent_id)
        assert done["turn"]["status"] == "completed"
        assert (lab.work / "here").exists()


async def test_agents_of_agents_are_commanded_from_above_and_end_with_their_parent(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        with (lab.home / "config.toml").open("a") as file:
            file.write("[agents]\nmax_depth = 2\n")
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script_agents(calls(spawn("deep", "dig")))
        lab.provider.script(calls(spawn("s1")))
        await client.request("turn/start", turn(thread_id))
        ended = {(await client.until("turn/completed"))["threadId"] for _ in range(3)}
        child, grandchild = output(lab, "s1")["agent_id"], output(lab, "deep")["agent_id"]
        assert ended == {thread_id, child, grandchild}
        read = (await client.request("thread/read", {"threadId": grandchild}))["thread"]
        assert read["source"]["subAgent"]["thread_spawn"]["depth"] == 2
        assert read["parentThreadId"] == child
        [asked] = [r for r in lab.provider.requests if r.headers["thread-id"] == grandchild]
        assert "spawn_agent" not in {tool.get("name") for tool in asked.body["tools"]}
        await run(
            lab,
            client,
            thread_id,
            function_call("wait_agent", {"targets": [grandchild]}, "w"),
            function_call("close_agent", {"target": child}, "c"),
            function_call("wait_agent", {"targets": [grandchild]}, "v"),
        )
        assert output(lab, "w")["status"] == {grandchild: {"completed": "Done"}}
        assert output(lab, "v")["status"] == {grandchild: "not_found"}
        loaded = (await client.request("thread/loaded/list", {}))["data"]
        assert loaded == [thread_id]
        listed = await client.request("thread/list", {"ancestorThreadId": thread_id})
        assert {each["id"] for each in listed["data"]} == {child, grandchild}
