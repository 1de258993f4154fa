import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, Kind, LabClient, turn
from support.fake_provider import (
    Step,
    calls,
    completed,
    created,
    custom_tool_call,
    failed,
    function_call,
    http_error,
    message,
    reasoning,
    reply,
)
from treadle.wire.protocol.errors import INVALID_PARAMS, INVALID_REQUEST, RpcError

BOTH = pytest.mark.parametrize("kind", ["memory", "stdio"])

PATCH = """\
*** Begin Patch
*** Update File: hello.txt
@@
-hello
+goodbye
*** Add File: new.txt
+fresh
*** End Patch
"""


def item_of(kind: str) -> Callable[[Any], bool]:
    return lambda params: params["item"]["type"] == kind


async def finished(client: LabClient) -> dict[str, Any]:
    return (await client.until("turn/completed"))["turn"]


# ------------------------------------------------------------------ the happy path


@BOTH
async def test_a_turn_tells_its_story_in_order(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        await client.settle()
        client.heard.clear()  # what the handshake told
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            Step([created(), *message("Hi there", deltas=["Hi ", "there"]), completed()])
        )
        answer = await client.call("turn/start", turn(thread_id, "hello"))
        done = await finished(client)
        assert client.methods() == [
            "thread/started",
            "thread/status/changed",
            "turn/started",
            "item/started",
            "item/completed",
            "item/started",
            "item/agentMessage/delta",
            "item/agentMessage/delta",
            "item/completed",
            "thread/tokenUsage/updated",
            "thread/status/changed",
            "turn/completed",
        ]
        params = [event.params for event in client.heard]
        assert params[1]["status"] == {"type": "active", "activeFlags": []}
        assert params[3]["item"]["content"][0]["text"] == "hello"
        assert [params[6]["delta"], params[7]["delta"]] == ["Hi ", "there"]
        assert params[8]["item"]["text"] == "Hi there"
        assert params[9]["tokenUsage"]["total"]["totalTokens"] == 15
        assert params[10]["status"] == {"type": "idle"}
        assert (done["id"], done["status"], done["error"]) == (answer.turn.id, "completed", None)
        assert {p.get("turnId", answer.turn.id) for p in params} == {answer.turn.id}
        seen = client.tap.seen
        answered = next(i for i, m in enumerate(seen) if "turn" in m.get("result", {}))
        assert seen[answered + 1]["method"] == "thread/status/changed"


async def test_the_second_turn_sends_the_first_along(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("First answer"))
        await lab.run_turn(client, thread_id, "first question")
        await lab.run_turn(client, thread_id, "second question")
        sent = lab.provider.requests[1].body["input"]
        said = [
            part["text"] for item in sent if item["type"] == "message" for part in item["content"]
        ]
        assert said[-3:] == ["first question", "First answer", "second question"]
        assert (
            sent[: len(lab.provider.requests[0].body["input"])]
            == (lab.provider.requests[0].body["input"])
        )


async def test_reasoning_is_streamed_as_an_item_of_its_own(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step([created(), *reasoning("Hmm"), *message("Ok"), completed()]))
        await lab.run_turn(client, thread_id)
        methods = client.methods()
        assert methods.index("item/reasoning/summaryPartAdded") < methods.index(
            "item/reasoning/summaryTextDelta"
        )
        items = [e.params["item"] for e in client.heard if e.method == "item/completed"]
        assert [item["type"] for item in items] == ["userMessage", "reasoning", "agentMessage"]
        assert items[1]["summary"] == ["Hmm"]


async def test_every_item_that_starts_completes_once(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            calls(*reasoning("why"), function_call("exec_command", {"cmd": "true"})),
            reply("ok"),
        )
        await lab.run_turn(client, thread_id)
        ids: dict[str, list[str]] = {"item/started": [], "item/completed": []}
        for event in client.heard:
            if event.method in ids:
                ids[event.method].append(event.params["item"]["id"])
        assert len(ids["item/started"]) == 4
        assert ids["item/started"] == ids["item/completed"]
        assert len(set(ids["item/started"])) == 4


async def test_settings_of_a_turn_stick_to_the_thread(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await client.request("turn/start", turn(thread_id, model="other", effort="high"))
        await finished(client)
        told = next(e.params for e in client.heard if e.method == "thread/settings/updated")
        assert told["threadSettings"]["model"] == "other"
        await lab.run_turn(client, thread_id)
        assert [r.body["model"] for r in lab.provider.requests] == ["other", "other"]
        assert lab.provider.requests[1].body["reasoning"]["effort"] == "high"


async def test_an_output_schema_reaches_the_model(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        schema = {"type": "object", "properties": {}, "additionalProperties": False}
        await client.request("turn/start", turn(thread_id, outputSchema=schema))
        await finished(client)
        form = lab.provider.requests[0].body["text"]["format"]
        assert (form["type"], form["schema"]) == ("json_schema", schema)


# ------------------------------------------------------------------ refusals


async def test_a_turn_needs_a_loaded_thread(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        nobody = "00000000-0000-7000-8000-000000000000"
        with pytest.raises(RpcError, match=f"thread not found: {nobody}") as raised:
            await client.request("turn/start", turn(nobody))
        assert raised.value.code == INVALID_REQUEST


async def test_input_past_a_million_characters_is_refused_with_the_numbers(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        with pytest.raises(RpcError, match="maximum length of 1048576") as raised:
            await client.request("turn/start", turn(thread_id, "x" * ((1 << 20) + 1)))
        assert raised.value.code == INVALID_PARAMS
        assert raised.value.data == {
            "input_error_code": "input_too_large",
            "max_chars": 1 << 20,
            "actual_chars": (1 << 20) + 1,
        }
        await lab.run_turn(client, thread_id, "x" * (1 << 20))


async def test_remote_images_are_refused(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        image = [{"type": "image", "url": "https://example.org/a.png"}]
        with pytest.raises(RpcError, match="remote image URLs are not supported"):
            await client.request("turn/start", {"threadId": thread_id, "input": image})


# ------------------------------------------------------------------ tools


@BOTH
async def test_the_model_runs_commands_and_hears_what_they_said(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        (lab.work / "hello.txt").write_text("hello\n")
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            calls(function_call("exec_command", {"cmd": "cat hello.txt; exit 3"})),
            reply("It says hello"),
        )
        done = await lab.run_turn(client, thread_id)
        assert done["status"] == "completed"
        item = next(
            e.params["item"]
            for e in client.heard
            if e.method == "item/completed" and item_of("commandExecution")(e.params)
        )
        assert (item["exitCode"], item["aggregatedOutput"]) == (3, "hello\n")
        assert item["cwd"] == str(lab.work)
        output = lab.provider.requests[1].body["input"][-1]
        assert (output["type"], output["call_id"]) == ("function_call_output", "call-1")
        assert "hello" in output["output"]
        assert "3" in output["output"]


@BOTH
async def test_the_model_edits_files(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        (lab.work / "hello.txt").write_text("hello\n")
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(calls(custom_tool_call("apply_patch", PATCH)), reply("done"))
        await lab.run_turn(client, thread_id)
        assert (lab.work / "hello.txt").read_text() == "goodbye\n"
        assert (lab.work / "new.txt").read_text() == "fresh\n"
        item = next(
            e.params["item"]
            for e in client.heard
            if e.method == "item/completed" and item_of("fileChange")(e.params)
        )
        assert item["status"] == "completed"
        assert sorted(change["kind"]["type"] for change in item["changes"]) == ["add", "update"]
        diff = next(e.params["diff"] for e in client.heard if e.method == "turn/diff/updated")
        assert "-hello" in diff
        assert "+goodbye" in diff
        assert lab.provider.requests[1].body["input"][-1]["type"] == "custom_tool_call_output"


async def test_outputs_go_back_in_the_order_of_the_calls(tmp_path: Path):
    """The first call ends last: it waits for a file that the second one makes."""
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        slow = "until test -e made; do sleep 0.01; done; echo slow"
        lab.provider.script(
            calls(
                function_call("exec_command", {"cmd": slow}, "a"),
                function_call("exec_command", {"cmd": "touch made; echo fast"}, "b"),
            ),
            reply("ok"),
        )
        await lab.run_turn(client, thread_id)
        outputs = lab.provider.requests[1].body["input"][-2:]
        assert [output["call_id"] for output in outputs] == ["a", "b"]
        assert "slow" in outputs[0]["output"]
        assert "fast" in outputs[1]["output"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("no_such_tool", {}), ("exec_command", "{not json"), ("exec_command", {}), ("", {})],
)
async def test_a_call_that_makes_no_sense_is_told_to_the_model(
    tmp_path: Path, name: str, arguments: Any
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(calls(function_call(name, arguments)), reply("sorry"))
        assert (await lab.run_turn(client, thread_id))["status"] == "completed"
        output = lab.provider.requests[1].body["input"][-1]
        assert output["call_id"] == "call-1"
        assert output["output"]


# ------------------------------------------------------------------ interrupting


@BOTH
async def test_an_interrupt_before_the_first_event_ends_the_turn(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step(before_head=asyncio.Event()))
        begun = await client.call("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        answer = await client.request(
            "turn/interrupt", {"threadId": thread_id, "turnId": begun.turn.id}
        )
        assert answer == {}
        done = await finished(client)
        assert (done["status"], done["error"]) == ("interrupted", None)
        assert (await lab.run_turn(client, thread_id))["status"] == "completed"


async def test_an_interrupt_in_the_same_breath_as_the_start_ends_the_turn(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        start = json.dumps({"id": "s", "method": "turn/start", "params": turn(thread_id)})
        params = {"threadId": thread_id, "turnId": ""}
        stop = json.dumps({"id": "i", "method": "turn/interrupt", "params": params})
        await client.tap.send([start.encode(), stop.encode()])
        answers = await client.tap.until_answered(["s", "i"])
        assert "result" in answers["s"]
        done = await finished(client)
        # An empty turn id means whatever runs, be it nothing: both orders are right.
        assert done["status"] in ("interrupted", "completed")
        assert client.methods().count("turn/completed") == 1


async def kept_apart(client: LabClient, thread_id: str, half: dict[str, Any]) -> None:
    read = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
    [told] = read["thread"]["turns"]
    assert [entry["type"] for entry in told["items"]] == ["userMessage"]
    assert told["partialItems"] == [half]
    entries = (await client.request("thread/items/list", {"threadId": thread_id}))["data"]
    assert [(e["item"]["type"], e.get("partial")) for e in entries] == [
        ("userMessage", None),
        ("agentMessage", True),
    ]
    await client.request("thread/unsubscribe", {"threadId": thread_id})
    await client.until("thread/closed")
    again = await client.request("thread/resume", {"threadId": thread_id})
    assert again["thread"]["turns"][0]["partialItems"] == [half]


async def test_a_streaming_answer_is_interrupted_and_what_was_said_is_kept(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step([created(), *message("half an answer")[:2]], hang=True))
        begun = await client.call("turn/start", turn(thread_id))
        await client.until("item/agentMessage/delta")
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": begun.turn.id})
        done = await finished(client)
        assert done["status"] == "interrupted"
        async with asyncio.timeout(10):
            await lab.provider.client_gone.wait()  # the model is not left talking
        # Half a message is no item like the others, and not lost either.
        assert done["items"] == []
        [half] = done["partialItems"]
        assert (half["type"], half["text"], half["partial"]) == (
            "agentMessage",
            "half an answer",
            True,
        )
        await kept_apart(client, thread_id, half)
        await lab.run_turn(client, thread_id, "go on")
        sent = json.dumps(lab.provider.requests[1].body["input"])
        assert "half an answer" in sent
        assert "<turn_aborted>" in sent


@BOTH
async def test_a_running_command_is_stopped_by_an_interrupt(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        script = "trap '' TERM; echo begun; sleep 300; touch survived"
        lab.provider.script(calls(function_call("exec_command", {"cmd": script})))
        begun = await client.call("turn/start", turn(thread_id))
        await client.until("item/commandExecution/outputDelta")
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": begun.turn.id})
        done = await finished(client)
        assert done["status"] == "interrupted"
        assert done["durationMs"] < 10_000
        assert not (lab.work / "survived").exists()
        await lab.run_turn(client, thread_id, "what now")
        outputs = [
            item
            for item in lab.provider.requests[-1].body["input"]
            if item["type"] == "function_call_output"
        ]
        assert [output["call_id"] for output in outputs] == ["call-1"]
        assert "aborted by user" in outputs[0]["output"]


async def test_only_the_turn_that_runs_can_be_interrupted(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        idle = {"threadId": thread_id, "turnId": "some-turn"}
        with pytest.raises(RpcError, match="no active turn to interrupt"):
            await client.request("turn/interrupt", idle)
        lab.provider.script(Step(hang=True))
        begun = await client.call("turn/start", turn(thread_id))
        expected = f"expected active turn id some-turn but found {begun.turn.id}"
        with pytest.raises(RpcError, match=expected):
            await client.request("turn/interrupt", idle)
        await client.request("turn/interrupt", {**idle, "turnId": ""})
        assert (await finished(client))["status"] == "interrupted"


async def test_a_turn_that_is_interrupted_many_times_ends_once(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step([created()], hang=True))
        await client.call("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        params = {"threadId": thread_id, "turnId": ""}
        frames = [
            json.dumps({"id": f"i{n}", "method": "turn/interrupt", "params": params}).encode()
            for n in range(20)
        ]
        await client.tap.send(frames)
        await client.tap.until_answered([f"i{n}" for n in range(20)])
        await finished(client)
        await client.settle()
        assert client.methods().count("turn/completed") == 1


# ------------------------------------------------------------------ steering


@BOTH
async def test_input_joins_a_running_turn(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            Step([created(), *message("half")[:2]], hang=True), reply("as you wish")
        )
        begun = await client.call("turn/start", turn(thread_id, "first"))
        await client.until("item/agentMessage/delta")
        steer = turn(thread_id, "rather this", expectedTurnId=begun.turn.id)
        assert await client.request("turn/steer", steer) == {"turnId": begun.turn.id}
        done = await finished(client)
        assert (done["id"], done["status"]) == (begun.turn.id, "completed")
        users = [
            e.params["item"]["content"][0]["text"]
            for e in client.heard
            if e.method == "item/completed" and item_of("userMessage")(e.params)
        ]
        assert users == ["first", "rather this"]
        assert "rather this" in json.dumps(lab.provider.requests[1].body["input"][-1])
        assert client.methods().count("turn/started") == 1


async def test_starting_a_turn_while_one_runs_joins_it(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step([created(), *message("half")[:2]], hang=True), reply("both"))
        first = await client.call("turn/start", turn(thread_id, "one"))
        await client.until("item/agentMessage/delta")
        second = await client.call("turn/start", turn(thread_id, "two"))
        assert second.turn.id == first.turn.id
        assert (await finished(client))["status"] == "completed"


async def test_steering_needs_the_turn_that_runs(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        with pytest.raises(RpcError, match="no active turn to steer"):
            await client.request("turn/steer", turn(thread_id, expectedTurnId="a"))
        lab.provider.script(Step(hang=True))
        await client.request("turn/start", turn(thread_id))
        with pytest.raises(RpcError, match="expected active turn id a but found"):
            await client.request("turn/steer", turn(thread_id, expectedTurnId="a"))
        with pytest.raises(RpcError, match="expectedTurnId must not be empty"):
            await client.request("turn/steer", turn(thread_id, expectedTurnId=""))
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": ""})
        await finished(client)


# ------------------------------------------------------------------ failures


@BOTH
async def test_a_refused_model_call_fails_the_turn_and_not_the_thread(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(http_error(401, "no such key"))
        done = await lab.run_turn(client, thread_id)
        assert done["status"] == "failed"
        assert done["error"]["message"]
        (error,) = [e.params for e in client.heard if e.method == "error"]
        assert error["willRetry"] is False
        assert error["error"] == done["error"]
        assert client.methods()[-1] == "turn/completed"
        statuses = [e.params["status"] for e in client.heard if e.method == "thread/status/changed"]
        assert statuses[-1] == {"type": "systemError"}
        assert (await lab.run_turn(client, thread_id))["status"] == "completed"


async def test_a_stream_that_breaks_is_tried_again_and_said_so(tmp_path: Path):
    async with AppLab(tmp_path, "memory", retries=2) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            Step([created(), *message("lost")[:2]], cut=True),
            Step([created(), *message("kept"), completed()]),
        )
        done = await lab.run_turn(client, thread_id)
        assert done["status"] == "completed"
        assert done["items"][0]["text"] == "kept"
        retries = [e.params for e in client.heard if e.method == "error"]
        assert [retry["willRetry"] for retry in retries] == [True]
        assert len(lab.provider.requests) == 2
        again = lab.provider.requests
        assert again[0].body["input"] == again[1].body["input"]


async def test_a_failure_that_the_provider_names_ends_the_turn(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step([created(), failed("context_length_exceeded")]))
        done = await lab.run_turn(client, thread_id)
        assert done["status"] == "failed"
        assert done["error"]["codexErrorInfo"] == "contextWindowExceeded"


async def test_a_failure_after_a_tool_call_leaves_a_history_that_still_works(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            Step([created(), function_call("exec_command", {"cmd": "true"})], cut=True),
            reply("fine"),
        )
        await lab.run_turn(client, thread_id)
        await lab.run_turn(client, thread_id, "again")
        items = lab.provider.requests[-1].body["input"]
        made = [item["call_id"] for item in items if item["type"] == "function_call"]
        answered = [item["call_id"] for item in items if item["type"] == "function_call_output"]
        assert made == answered == ["call-1"]


async def test_a_running_turns_settings_change_with_its_next_request(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        plain = await lab.start_thread(client)
        update = {"threadId": plain, "turnId": "x", "effort": "high"}
        with pytest.raises(RpcError, match="require the step_model_switching feature"):
            await client.request("turn/settings/update", update)
        thread_id = await lab.start_thread(
            client, config={"features": {"step_model_switching": True}}
        )
        gate = asyncio.Event()
        working = [created(), gate, function_call("update_plan", {"plan": []}), completed()]
        lab.provider.script(Step(working), reply())
        begun = await client.call("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        update = {"threadId": thread_id, "turnId": begun.turn.id, "effort": "high"}
        answer = await client.request("turn/settings/update", update)
        assert answer == {"status": "applied"}
        gate.set()
        assert (await finished(client))["status"] == "completed"
        efforts = [(r.body.get("reasoning") or {}).get("effort") for r in lab.provider.requests]
        assert efforts[-1] == "high"
        assert efforts[0] != "high"
        answer = await client.request("turn/settings/update", update)
        assert answer == {"status": "targetUnavailable"}
