"""Approvals outlive the process that asked: bound to their effect, answered later, done once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import calls, custom_tool_call, function_call
from treadle.wire.client.client import ConnectionLost, Event
from treadle.wire.protocol.errors import RpcError

ASK = "item/commandExecution/requestApproval"
CAREFUL = {"approvalPolicy": "untrusted", "sandboxPolicy": {"type": "dangerFullAccess"}}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "stdio") as lab:
        yield lab


def command(script: str, call_id: str = "c1") -> dict[str, Any]:
    return function_call("exec_command", {"cmd": script, "login": False}, call_id)


async def asked(client: LabClient) -> Event:
    while True:
        event = await client.next_event()
        client.heard.append(event)
        if event.wants_answer:
            return event


async def left_waiting(lab: AppLab, *steps: Any, questions: int = 1) -> tuple[str, list[int]]:
    """A thread whose server was killed while its turn waits: its id, and the requests' ids."""
    lab.provider.script(*steps)
    client = await lab.connect()
    thread_id = await lab.start_thread(client, model="gpt-5.5")
    await client.request("turn/start", turn(thread_id, **CAREFUL))
    ids = [int((await asked(client)).raw_id or b"") for _ in range(questions)]
    await killed(lab, client)
    return thread_id, ids


async def killed(lab: AppLab, client: LabClient) -> None:
    lab.kill()
    with pytest.raises(ConnectionLost):
        await client.until("never")


def outputs(lab: AppLab) -> dict[str, str]:
    """Outputs of calls in the last request that the model got."""
    items = lab.provider.requests[-1].body["input"]
    return {i["call_id"]: i["output"] for i in items if i["type"].endswith("_call_output")}


async def approvals(client: LabClient, thread_id: str) -> list[dict[str, Any]]:
    wanted = {"threadId": thread_id, "includeSettled": True}
    return (await client.request("approval/list", wanted))["data"]


async def until_settled(client: LabClient, thread_id: str) -> dict[str, Any]:
    """The thread's last turn once it has ended, for a client that does not watch it."""
    async with asyncio.timeout(20):
        while True:
            read = await client.request(
                "thread/read", {"threadId": thread_id, "includeTurns": True}
            )
            last = read["thread"]["turns"][-1]
            if last["status"] != "inProgress":
                return last
            await client.next_event()


async def test_a_killed_servers_question_is_asked_again_and_carried_out_once(lab: AppLab):
    thread_id, [number] = await left_waiting(lab, calls(command("echo run >> log.txt")))

    again = await lab.connect()
    stored = await again.request("thread/read", {"threadId": thread_id, "includeTurns": True})
    assert [t["status"] for t in stored["thread"]["turns"]] == ["inProgress"]
    resumed = await again.request("thread/resume", {"threadId": thread_id})
    assert resumed["thread"]["status"] == {
        "type": "active",
        "activeFlags": ["waitingOnApproval"],
    }
    question = await asked(again)
    assert int(question.raw_id or b"") == number
    assert question.params["turnId"] == resumed["thread"]["turns"][0]["id"]
    again.respond(question, {"decision": "accept"})
    done = (await again.until("turn/completed"))["turn"]

    assert (done["status"], done["id"]) == ("completed", question.params["turnId"])
    assert (lab.work / "log.txt").read_text() == "run\n"
    assert "exited with code 0" in outputs(lab)["c1"]
    assert "serverRequest/resolved" in again.methods()
    stored = await again.request("thread/read", {"threadId": thread_id, "includeTurns": True})
    [kept] = stored["thread"]["turns"]
    assert kept["status"] == "completed"
    assert [i["type"] for i in kept["items"]] == ["userMessage", "commandExecution", "agentMessage"]


async def test_an_answer_reaches_a_thread_that_nobody_loaded_and_is_confirmed_when_repeated(
    lab: AppLab,
):
    thread_id, [number] = await left_waiting(lab, calls(command("echo run >> log.txt")))
    client = await lab.connect()
    [open_one] = await approvals(client, thread_id)
    assert (open_one["requestId"], open_one["status"]) == (number, "pending")
    assert open_one["method"] == ASK
    assert open_one["params"]["command"].endswith("'echo run >> log.txt'")

    accept = {"threadId": thread_id, "requestId": number, "result": {"decision": "accept"}}
    first = await client.request("approval/answer", accept)
    assert (first["approval"]["status"], first["approval"]["by"]) == ("settled", "client")
    assert await client.request("approval/answer", accept) == first
    assert (await until_settled(client, thread_id))["status"] == "completed"
    assert await client.request("approval/answer", accept) == first
    assert (lab.work / "log.txt").read_text() == "run\n"

    with pytest.raises(RpcError, match="is not open: it is settled: answered by a client") as late:
        await client.request("approval/answer", {**accept, "result": {"decision": "decline"}})
    assert late.value.data["settled"]["answer"] == {"decision": "accept"}
    with pytest.raises(RpcError, match="no such request is known for this thread"):
        await client.request("approval/answer", {**accept, "requestId": number + 1})
    with pytest.raises(RpcError, match="is no answer to item/commandExecution/requestApproval"):
        await client.request("approval/answer", {**accept, "result": {"decision": "perhaps"}})


async def test_declining_after_a_restart_lets_the_turn_go_on_without_the_command(lab: AppLab):
    thread_id, _ = await left_waiting(lab, calls(command("touch a.txt")))
    again = await lab.connect()
    await again.request("thread/resume", {"threadId": thread_id})
    again.respond(await asked(again), {"decision": "decline"})
    assert (await again.until("turn/completed"))["turn"]["status"] == "completed"
    assert "rejected by user" in outputs(lab)["c1"]
    assert not (lab.work / "a.txt").exists()


async def test_a_turn_that_waits_again_can_be_interrupted_and_its_question_is_stale(lab: AppLab):
    thread_id, [number] = await left_waiting(lab, calls(command("touch a.txt")))
    again = await lab.connect()
    await again.request("thread/resume", {"threadId": thread_id})
    question = await asked(again)
    await again.request(
        "turn/interrupt", {"threadId": thread_id, "turnId": question.params["turnId"]}
    )
    assert (await again.until("turn/completed"))["turn"]["status"] == "interrupted"
    accept = {"threadId": thread_id, "requestId": number, "result": {"decision": "accept"}}
    with pytest.raises(RpcError, match="its turn has ended"):
        await again.request("approval/answer", accept)
    assert (await lab.run_turn(again, thread_id, "go on"))["status"] == "completed"
    assert not (lab.work / "a.txt").exists()


async def test_a_server_that_is_told_to_stop_leaves_its_waiting_turn_waiting(lab: AppLab):
    lab.provider.script(calls(command("echo run >> log.txt")))
    client = await lab.connect()
    thread_id = await lab.start_thread(client, model="gpt-5.5")
    await client.request("turn/start", turn(thread_id, **CAREFUL))
    number = (await asked(client)).raw_id
    await client.close()
    async with asyncio.timeout(20):
        await lab.children[-1].wait()
    again = await lab.connect()
    await again.request("thread/resume", {"threadId": thread_id})
    question = await asked(again)
    assert question.raw_id == number
    again.respond(question, {"decision": "accept"})
    assert (await again.until("turn/completed"))["turn"]["status"] == "completed"
    assert (lab.work / "log.txt").read_text() == "run\n"


async def test_two_questions_of_one_answer_both_wait(lab: AppLab):
    step = calls(command("echo a >> log.txt", "c1"), command("echo b >> log.txt", "c2"))
    thread_id, numbers = await left_waiting(lab, step, questions=2)
    again = await lab.connect()
    await again.request("thread/resume", {"threadId": thread_id})
    questions = [await asked(again), await asked(again)]
    assert sorted(int(q.raw_id or b"") for q in questions) == sorted(numbers)
    for question in questions:
        again.respond(question, {"decision": "accept"})
    assert (await again.until("turn/completed"))["turn"]["status"] == "completed"
    assert sorted((lab.work / "log.txt").read_text().split()) == ["a", "b"]
    assert list(outputs(lab)) == ["c1", "c2"]


async def test_a_turn_that_also_ran_something_is_interrupted_instead(lab: AppLab):
    """Of a call that was being carried out nobody knows how far it came."""
    # Under this policy plain readers run unasked. It comes first: what is stored with the question
    # then has it too.
    step = calls(command("tail -f /dev/null", "r1"), command("touch b.txt", "c1"))
    thread_id, [number] = await left_waiting(lab, step)
    again = await lab.connect()
    resumed = await again.request("thread/resume", {"threadId": thread_id})
    assert [t["status"] for t in resumed["thread"]["turns"]] == ["interrupted"]
    assert [entry["itemId"] for entry in await approvals(again, thread_id)] == ["c1"]
    accept = {"threadId": thread_id, "requestId": number, "result": {"decision": "accept"}}
    with pytest.raises(RpcError, match="its turn has ended"):
        await again.request("approval/answer", accept)
    assert not (lab.work / "b.txt").exists()


async def test_a_deadline_that_passed_meanwhile_counts_and_the_turn_goes_on(tmp_path: Path):
    async with AppLab(tmp_path, "stdio", extra="approval_timeout_secs = 1") as lab:
        thread_id, _ = await left_waiting(lab, calls(command("touch a.txt")))
        again = await lab.connect()
        await again.request("thread/resume", {"threadId": thread_id})
        done = (await again.until("turn/completed"))["turn"]
        assert done["status"] == "completed"
        assert "nobody answered within 1 s" in outputs(lab)["c1"]
        [ended] = await approvals(again, thread_id)
        assert (ended["by"], ended["answer"]) == ("deadline", None)
        assert not (lab.work / "a.txt").exists()


async def test_a_patch_that_would_do_something_else_by_now_is_asked_about_anew(lab: AppLab):
    (lab.work / "a.txt").write_text("zero\none\n")
    patch = "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n*** End Patch"
    thread_id, [number] = await left_waiting(lab, calls(custom_tool_call("apply_patch", patch)))
    (lab.work / "a.txt").write_text("other\nlines\nzero\none\n")
    again = await lab.connect()
    await again.request("thread/resume", {"threadId": thread_id})
    old, new = await asked(again), await asked(again)
    assert int(old.raw_id or b"") == number
    assert int(new.raw_id or b"") != number
    again.respond(old, {"decision": "accept"})
    await again.settle()
    assert (lab.work / "a.txt").read_text() == "other\nlines\nzero\none\n"
    again.respond(new, {"decision": "accept"})
    assert (await again.until("turn/completed"))["turn"]["status"] == "completed"
    assert (lab.work / "a.txt").read_text() == "other\nlines\nzero\ntwo\n"


async def test_a_fork_of_a_waiting_thread_is_not_waiting(lab: AppLab):
    thread_id, _ = await left_waiting(lab, calls(command("touch a.txt")))
    client = await lab.connect()
    forked = await client.request("thread/fork", {"threadId": thread_id})
    assert [t["status"] for t in forked["thread"]["turns"]] == ["interrupted"]
    stored = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
    assert [t["status"] for t in stored["thread"]["turns"]] == ["inProgress"]


async def test_the_shape_of_the_final_answer_is_still_asked_for(lab: AppLab):
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}
    lab.provider.script(calls(command("touch a.txt")))
    client = await lab.connect()
    thread_id = await lab.start_thread(client, model="gpt-5.5")
    await client.request("turn/start", turn(thread_id, outputSchema=schema, **CAREFUL))
    await asked(client)
    await killed(lab, client)
    again = await lab.connect()
    await again.request("thread/resume", {"threadId": thread_id})
    again.respond(await asked(again), {"decision": "accept"})
    await again.until("turn/completed")
    assert lab.provider.requests[-1].body["text"]["format"]["schema"] == schema
