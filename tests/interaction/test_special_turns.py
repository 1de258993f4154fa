import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, completed, created, item_done, message, reply
from treadle.wire.protocol.errors import INVALID_REQUEST, RpcError

FINDINGS = json.dumps(
    {
        "findings": [
            {
                "title": "Off by one",
                "body": "Ends early.",
                "code_location": {
                    "absolute_file_path": "/src/a.rs",
                    "line_range": {"start": 1, "end": 2},
                },
            }
        ],
        "overall_explanation": "Mostly fine.",
    }
)
READABLE = "Mostly fine.\n\nReview comment:\n\n- Off by one — /src/a.rs:1-2\n  Ends early."
CUSTOM = {"type": "custom", "instructions": " mind the tests "}


def items_done(client: LabClient, kind: str | None = None) -> list[dict[str, Any]]:
    done = [e.params["item"] for e in client.heard if e.method == "item/completed"]
    return [item for item in done if kind in (None, item["type"])]


async def test_a_review_tells_its_findings_and_stays_as_its_result(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply(FINDINGS))
        answer = await client.request("review/start", {"threadId": thread_id, "target": CUSTOM})
        assert answer["reviewThreadId"] == thread_id
        (shown,) = answer["turn"]["items"]
        assert shown["id"] == answer["turn"]["id"]
        assert shown["content"][0]["text"] == "mind the tests"
        done = (await client.until("turn/completed"))["turn"]
        assert done["id"] == answer["turn"]["id"]
        assert [item["type"] for item in items_done(client)] == [
            "enteredReviewMode",
            "userMessage",
            "exitedReviewMode",
            "agentMessage",
        ]
        assert items_done(client, "exitedReviewMode")[0]["review"] == READABLE
        assert items_done(client, "agentMessage")[0]["text"] == READABLE
        assert "item/agentMessage/delta" not in client.methods()
        assert lab.provider.requests[0].headers["x-openai-subagent"] == "review"
        await lab.run_turn(client, thread_id, "thanks")
        told = json.dumps(lab.provider.requests[1].body["input"])
        assert "Off by one" in told
        assert "overall_explanation" not in told


async def test_a_review_takes_no_input_and_leaves_its_mode_when_interrupted(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step([created()], hang=True))
        answer = await client.request("review/start", {"threadId": thread_id, "target": CUSTOM})
        turn_id = answer["turn"]["id"]
        await lab.provider.wait_requests(1)
        with pytest.raises(RpcError, match="cannot steer a review turn"):
            await client.request("turn/steer", {**turn(thread_id), "expectedTurnId": turn_id})
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": turn_id})
        assert (await client.until("turn/completed"))["turn"]["status"] == "interrupted"
        (left,) = items_done(client, "exitedReviewMode")
        assert left["review"] == "Reviewer failed to output a response."
        assert "interrupted" in items_done(client, "agentMessage")[0]["text"]


async def test_a_review_takes_the_place_of_a_compaction(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(reply("a"), Step([created()], hang=True), reply("fine"))
        await lab.run_turn(client, thread_id)
        await client.request("thread/compact/start", {"threadId": thread_id})
        await lab.provider.wait_requests(2)
        await client.request("review/start", {"threadId": thread_id, "target": CUSTOM})
        assert (await client.until("turn/completed"))["turn"]["status"] == "interrupted"
        assert (await client.until("turn/completed"))["turn"]["status"] == "completed"


async def test_a_detached_review_runs_on_a_fork(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id, "seed")
        lab.provider.script(reply(FINDINGS))
        asked = {"threadId": thread_id, "target": CUSTOM, "delivery": "detached"}
        other = (await client.request("review/start", asked))["reviewThreadId"]
        begun = await client.until("thread/started", lambda p: p["thread"]["id"] == other)
        assert begun["thread"]["forkedFromId"] == thread_id
        await client.until("turn/completed", lambda p: p["threadId"] == other)
        assert items_done(client, "exitedReviewMode")[0]["review"] == READABLE


@pytest.mark.parametrize(
    ("target", "telling"),
    [
        ({"type": "baseBranch", "branch": " "}, "branch must not be empty"),
        ({"type": "commit", "sha": ""}, "sha must not be empty"),
        ({"type": "custom", "instructions": "\n"}, "instructions must not be empty"),
    ],
)
async def test_blank_review_targets_are_refused(
    tmp_path: Path, target: dict[str, str], telling: str
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        with pytest.raises(RpcError, match=telling) as refused:
            await client.request("review/start", {"threadId": thread_id, "target": target})
        assert refused.value.code == INVALID_REQUEST


# ------------------------------------------------------------------ commands of the user


async def test_a_users_command_is_a_turn_and_the_model_hears_of_it_later(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client, sandbox="read-only")
        command = {"threadId": thread_id, "command": "touch made; echo hi | tr a-z A-Z; exit 3"}
        assert await client.request("thread/shellCommand", command) == {}
        assert (await client.until("turn/completed"))["turn"]["status"] == "completed"
        (item,) = items_done(client, "commandExecution")
        assert (item["source"], item["exitCode"]) == ("userShell", 3)
        assert "HI\n" in item["aggregatedOutput"]
        assert (lab.work / "made").exists()  # the user is not sandboxed
        assert not lab.provider.requests
        await lab.run_turn(client, thread_id, "what was that")
        told = json.dumps(lab.provider.requests[0].body["input"])
        assert "<user_shell_command>" in told
        assert "HI" in told


async def test_a_users_command_joins_the_running_turn_and_the_model_is_asked_again(
    tmp_path: Path,
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        gate = asyncio.Event()
        lab.provider.script(
            Step([created(), gate, *message("first"), completed()]), reply("second")
        )
        begun = await client.call("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        command = {"threadId": thread_id, "command": "echo meanwhile"}
        await client.request("thread/shellCommand", command)
        done = await client.until(
            "item/completed", lambda p: p["item"]["type"] == "commandExecution"
        )
        assert done["turnId"] == begun.turn.id
        gate.set()
        await client.until("turn/completed")
        assert "meanwhile" in json.dumps(lab.provider.requests[1].body["input"])


async def test_a_users_command_stops_at_its_limit_and_at_an_interrupt(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        command = {"threadId": thread_id, "command": "echo on; sleep 300"}
        await client.request("thread/shellCommand", {**command, "timeoutMs": 300})
        await client.until("turn/completed")
        assert items_done(client, "commandExecution")[-1]["exitCode"] == 124
        await client.request("thread/shellCommand", command)
        await client.until("item/commandExecution/outputDelta")
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": ""})
        assert (await client.until("turn/completed"))["turn"]["status"] == "interrupted"
        assert items_done(client, "commandExecution")[-1]["status"] == "failed"


async def test_input_during_a_users_command_is_answered_after_it(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        fifo = lab.work / "go"
        script = f"mkfifo {fifo}; echo ready; cat {fifo}"
        await client.request("thread/shellCommand", {"threadId": thread_id, "command": script})
        await client.until("item/commandExecution/outputDelta")
        await client.request("turn/start", turn(thread_id, "and then"))
        await asyncio.to_thread(fifo.write_text, "released\n")
        assert (await client.until("turn/completed"))["turn"]["status"] == "completed"
        told = json.dumps(lab.provider.requests[0].body["input"])
        assert told.index("released") < told.index("and then")


async def test_a_blank_command_is_refused(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        with pytest.raises(RpcError, match="command must not be empty"):
            await client.request("thread/shellCommand", {"threadId": thread_id, "command": "  "})


# ------------------------------------------------------------------ skills, images, diffs


async def test_a_named_skill_comes_along_once_and_all_are_listed(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        folder = lab.home / "skills" / "demo"
        folder.mkdir(parents=True)
        head = "---\nname: demo\ndescription: shows a thing\n---\n"
        (folder / "SKILL.md").write_text(f"{head}\nAnswer in verse 4711.\n")
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id, "use $demo, and $demo again")
        await lab.run_turn(client, thread_id, "no skill here")
        first, second = (json.dumps(r.body["input"]) for r in lab.provider.requests)
        assert "<skills_instructions>" in first
        assert "demo: shows a thing" in first
        assert first.count("verse 4711") == second.count("verse 4711") == 1


async def test_a_generated_image_is_kept_below_home_whatever_its_id(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        image = {"type": "image_generation_call", "id": "../../ig_1", "result": "aGVsbG8="}
        lab.provider.script(Step([created(), item_done(image), *message("there"), completed()]))
        await lab.run_turn(client, thread_id)
        (item,) = items_done(client, "imageGeneration")
        path = Path(item["savedPath"])
        assert path.read_bytes() == b"hello"
        assert path.is_relative_to(lab.home / "generated_images")
        assert path.parent.name == thread_id
