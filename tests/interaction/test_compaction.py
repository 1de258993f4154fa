import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import (
    Step,
    calls,
    completed,
    created,
    failed,
    function_call,
    http_error,
    message,
    reply,
)
from treadle.wire.protocol.errors import INTERNAL, INVALID_REQUEST, RpcError

LIMIT = "model_auto_compact_token_limit = 1000"


def sent_texts(lab: AppLab, number: int) -> list[str]:
    """All texts of a request, in order."""
    items: list[dict[str, Any]] = lab.provider.requests[number].body["input"]
    parts = [part for item in items for part in item.get("content") or []]
    return [part["text"] for part in parts if "text" in part]


def kinds_done(client: LabClient) -> list[str]:
    return [e.params["item"]["type"] for e in client.heard if e.method == "item/completed"]


async def test_a_compaction_asked_for_replaces_the_history_by_a_summary(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("answer one"), reply("THE GIST"))
        await lab.run_turn(client, thread_id, "question one")
        client.heard.clear()
        assert await client.request("thread/compact/start", {"threadId": thread_id}) == {}
        done = (await client.until("turn/completed"))["turn"]
        assert done["status"] == "completed"
        assert kinds_done(client) == ["contextCompaction"]
        usage = [e.params for e in client.heard if e.method == "thread/tokenUsage/updated"]
        assert usage[-1]["tokenUsage"]["last"]["inputTokens"] == 0
        await lab.run_turn(client, thread_id, "question two")
        told = "\n".join(sent_texts(lab, 2))
        assert "question one" in told
        assert "THE GIST" in told
        assert "answer one" not in told
        assert lab.provider.requests[2].headers["x-codex-window-id"].endswith(":1")


async def test_a_compaction_survives_a_restart(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("answer one"), reply("THE GIST"))
        await lab.run_turn(client, thread_id, "question one")
        await client.request("thread/compact/start", {"threadId": thread_id})
        await client.until("turn/completed")
        lab.kill()
        again = await lab.connect()
        await again.request("thread/resume", {"threadId": thread_id})
        await lab.run_turn(again, thread_id, "question two")
        told = "\n".join(sent_texts(lab, 2))
        assert "THE GIST" in told
        assert "answer one" not in told


async def test_a_failed_compaction_leaves_the_history_alone(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("answer one"), http_error(500))
        await lab.run_turn(client, thread_id, "question one")
        await client.request("thread/compact/start", {"threadId": thread_id})
        assert (await client.until("turn/completed"))["turn"]["status"] == "failed"
        await lab.run_turn(client, thread_id, "question two")
        assert sent_texts(lab, 2)[-3:] == ["question one", "answer one", "question two"]


async def test_an_empty_summary_replaces_nothing(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("answer one"), reply("  "))
        await lab.run_turn(client, thread_id, "question one")
        await client.request("thread/compact/start", {"threadId": thread_id})
        done = (await client.until("turn/completed"))["turn"]
        assert done["status"] == "failed"
        assert "without a summary" in done["error"]["message"]
        await lab.run_turn(client, thread_id, "question two")
        assert "answer one" in sent_texts(lab, 2)


async def test_an_interrupted_compaction_leaves_the_history_alone(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("answer one"), Step([created()], hang=True))
        await lab.run_turn(client, thread_id, "question one")
        await client.request("thread/compact/start", {"threadId": thread_id})
        await lab.provider.wait_requests(2)
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": ""})
        assert (await client.until("turn/completed"))["turn"]["status"] == "interrupted"
        await lab.run_turn(client, thread_id, "question two")
        assert "answer one" in sent_texts(lab, 2)


async def test_a_full_context_is_compacted_before_the_next_turn(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=LIMIT) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("a", input_tokens=5000), reply("THE GIST"), reply("b"))
        await lab.run_turn(client, thread_id, "one")
        client.heard.clear()
        await lab.run_turn(client, thread_id, "two")
        assert kinds_done(client) == ["contextCompaction", "userMessage", "agentMessage"]
        assert client.methods().count("turn/started") == 1
        assert sent_texts(lab, 2)[-1] == "two"


async def test_a_context_that_fills_up_is_compacted_between_two_requests(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=LIMIT) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            calls(function_call("exec_command", {"cmd": "echo hi"}), input_tokens=5000),
            reply("THE GIST", input_tokens=5100),
            reply("done"),
        )
        done = await lab.run_turn(client, thread_id, "go")
        assert done["status"] == "completed"
        assert "contextCompaction" in kinds_done(client)
        last = lab.provider.requests[2].body["input"]
        assert "THE GIST" in json.dumps(last)
        assert not [item for item in last if item["type"].endswith("_output")]


async def test_an_overflow_past_the_first_answer_is_compacted_and_the_turn_goes_on(
    tmp_path: Path,
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            calls(function_call("exec_command", {"cmd": "echo hi"})),
            Step([created(), failed("context_length_exceeded")]),
            reply("THE GIST"),
            reply("done"),
        )
        done = await lab.run_turn(client, thread_id, "go")
        assert done["status"] == "completed"
        assert "THE GIST" in json.dumps(lab.provider.requests[3].body["input"])


async def test_a_first_request_that_overflows_fails_and_the_next_turn_compacts(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            Step([created(), failed("context_length_exceeded")]), reply("THE GIST"), reply("ok")
        )
        assert (await lab.run_turn(client, thread_id, "too much"))["status"] == "failed"
        assert (await lab.run_turn(client, thread_id, "next"))["status"] == "completed"
        assert any("THE GIST" in text for text in sent_texts(lab, 2))


async def test_a_history_that_cannot_even_be_summarised_is_cut(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=LIMIT) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        overflow = Step([created(), failed("context_length_exceeded")])
        lab.provider.script(reply("a", input_tokens=5000), *[overflow] * 5, reply("b"))
        await lab.run_turn(client, thread_id, "one")
        client.heard.clear()
        assert (await lab.run_turn(client, thread_id, "two"))["status"] == "completed"
        assert "warning" in client.methods()
        assert "left out to make room" in "\n".join(sent_texts(lab, -1))


async def test_input_is_refused_while_a_compaction_runs(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        gate = asyncio.Event()
        lab.provider.script(reply("a"), Step([created(), gate, *message("GIST"), completed()]))
        await lab.run_turn(client, thread_id, "one")
        await client.request("thread/compact/start", {"threadId": thread_id})
        running = (await client.until("turn/started"))["turn"]["id"]
        with pytest.raises(RpcError) as refused:
            await client.request("turn/steer", {**turn(thread_id), "expectedTurnId": running})
        assert refused.value.code == INVALID_REQUEST
        assert refused.value.data["codexErrorInfo"] == {
            "activeTurnNotSteerable": {"turnKind": "compact"}
        }
        with pytest.raises(RpcError) as refused:
            await client.request("turn/start", turn(thread_id))
        assert refused.value.code == INTERNAL
        assert "ActiveTurnNotSteerable { turn_kind: Compact }" in refused.value.message
        with pytest.raises(RpcError, match="cannot compact"):
            await client.request("thread/compact/start", {"threadId": thread_id})
        gate.set()
        assert (await client.until("turn/completed"))["turn"]["status"] == "completed"


async def test_instructions_past_the_limit_do_not_keep_turns_from_running(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=LIMIT) as lab:
        (lab.work / "AGENTS.md").write_text("mind the gap " * 2_400)
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("a", input_tokens=9000), reply("THE GIST"), reply("b"))
        await lab.run_turn(client, thread_id, "one")
        client.heard.clear()
        assert (await lab.run_turn(client, thread_id, "two"))["status"] == "completed"
        told = [e.params["message"] for e in client.heard if e.method == "warning"]
        assert any("could not be made smaller" in text for text in told)
        assert "a" in sent_texts(lab, -1)


TALE = "answer " * 3_000
"""Long enough that a summary must make the context smaller."""


@pytest.mark.parametrize(
    "summary",
    [http_error(500), reply(""), reply("gist " * 6_000)],
    ids=["fails", "empty", "oversize"],
)
async def test_a_turn_goes_on_when_its_context_cannot_be_summarised(tmp_path: Path, summary: Step):
    async with AppLab(tmp_path, "memory", extra=LIMIT) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply(TALE, input_tokens=5000))
        await lab.run_turn(client, thread_id, "one")
        client.heard.clear()
        again = calls(function_call("exec_command", {"cmd": "true"}), input_tokens=5200)
        lab.provider.script(summary, again, reply("b", input_tokens=5400))
        assert (await lab.run_turn(client, thread_id, "two"))["status"] == "completed"
        assert "contextCompaction" not in kinds_done(client)
        assert client.methods().count("warning") == 1  # and it was not tried again
        assert len(lab.provider.requests) == 4
        assert TALE in sent_texts(lab, -1)
        # The next turn tries anew, and nothing was lost for it.
        lab.provider.script(reply("THE GIST"), reply("c"))
        assert (await lab.run_turn(client, thread_id, "three"))["status"] == "completed"
        assert any("THE GIST" in text for text in sent_texts(lab, -1))


async def test_an_overflow_without_a_summary_is_cut_and_the_turn_goes_on(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        lab.provider.strict = True
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            reply(TALE),
            calls(function_call("exec_command", {"cmd": "echo hi"})),
            Step([created(), failed("context_length_exceeded")]),
            http_error(500),
            reply("done"),
        )
        await lab.run_turn(client, thread_id, "one")
        assert (await lab.run_turn(client, thread_id, "two"))["status"] == "completed"
        assert "left out to make room" in "\n".join(sent_texts(lab, -1))


async def test_twenty_compactions_keep_the_goal(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        lab.provider.strict = True
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id, "The goal: paint the shed green, never red.")
        for number in range(20):
            work = calls(function_call("exec_command", {"cmd": "true"}, "again"))
            lab.provider.script(work, reply(TALE), reply(f"GIST {number}"))
            await lab.run_turn(client, thread_id, f"step {number}")
            await client.request("thread/compact/start", {"threadId": thread_id})
            done = await client.until("turn/completed", lambda p: p["threadId"] == thread_id)
            assert done["turn"]["status"] == "completed"
        await lab.run_turn(client, thread_id, "finish")
        sent = "\n".join(sent_texts(lab, -1))
        assert "paint the shed green, never red" in sent
        assert "GIST 19" in sent
        assert "GIST 18" not in sent
        assert "step 0" in sent
