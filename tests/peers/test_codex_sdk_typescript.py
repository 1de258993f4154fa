"""The TypeScript package of Codex drives our `exec` as its own, through its path override."""

# pyright: basic, reportMissingImports=false

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from peer_bench import NPM, TREADLE, WAIT_SECONDS, Bench

from support.fake_provider import Step, calls, created, function_call, http_error, message, reply

DRIVER = Path(__file__).parent / "npm/codex_sdk.mjs"
PACKAGE = NPM / "node_modules/@openai/codex-sdk"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not PACKAGE.exists(), reason="node or the package is missing"
)


def turn(input: Any, **more: Any) -> dict[str, Any]:
    return {"input": input, **more}


def drive(bench: Bench, *turns: dict[str, Any], resume: str | None = None, **thread: Any) -> Any:
    """Run turns with the package; what it said."""
    job = {
        "codex": {
            "codexPathOverride": str(TREADLE),
            "env": {**bench.environment, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        },
        "thread": {
            "workingDirectory": str(bench.work),
            "skipGitRepoCheck": True,
            "sandboxMode": "danger-full-access",
            **thread,
        },
        "resume": resume,
        "turns": turns,
    }
    done = subprocess.run(
        ["node", str(DRIVER), str(NPM)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kinds(turn: Any) -> list[str]:
    return [
        event["type"] + (f" {event['item']['type']}" if "item" in event else "")
        for event in turn["events"]
    ]


def test_a_turn_streams_its_events_in_order_with_its_usage(bench: Bench) -> None:
    call = function_call("exec_command", {"cmd": "echo warp; exit 3", "login": False})
    bench.provider.script(calls(call), reply("It failed.", input_tokens=11, output_tokens=7))

    said = drive(bench, turn("run it"))

    [ran] = said["turns"]
    assert ran["error"] is None
    assert kinds(ran) == [
        "thread.started",
        "turn.started",
        "item.started command_execution",
        "item.completed command_execution",
        "item.completed agent_message",
        "turn.completed",
    ]
    assert ran["events"][0]["thread_id"] == said["threadId"]
    command = ran["events"][3]["item"]
    assert (command["exit_code"], command["aggregated_output"]) == (3, "warp\n")
    assert ran["events"][5]["usage"]["output_tokens"] == 12


def test_later_turns_and_later_processes_go_on_with_the_thread(bench: Bench) -> None:
    first = drive(bench, turn("the word is heddle"), turn("remember it"))
    again = drive(bench, turn("which word?"), resume=first["threadId"])

    assert again["turns"][0]["events"][0]["thread_id"] == first["threadId"]
    for words in ("the word is heddle", "remember it", "which word?"):
        assert words in bench.last_input()


def test_schema_model_and_effort_reach_the_model(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    bench.provider.script(reply('{"n": 4}'))

    said = drive(
        bench,
        turn("2+2", options={"outputSchema": schema}),
        model="other-model",
        modelReasoningEffort="high",
    )

    body = bench.provider.requests[-1].body
    assert said["turns"][0]["events"][-2]["item"]["text"] == '{"n": 4}'
    assert body["text"]["format"]["schema"] == schema
    assert (body["model"], body["reasoning"]["effort"]) == ("other-model", "high")
    assert bench.provider.requests[-1].headers["originator"] == "codex_sdk_ts"


def test_texts_and_an_image_are_one_message(bench: Bench) -> None:
    image = bench.work / "dot.png"
    image.write_bytes(PNG)
    parts = [
        {"type": "text", "text": "part one"},
        {"type": "text", "text": "part two"},
        {"type": "local_image", "path": str(image)},
    ]

    drive(bench, turn(parts))

    assert "part one\\n\\npart two" in bench.last_input()
    assert "data:image/png;base64," in bench.last_input()


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0"
    "f01f00050001ff56c72f0d0000000049454e44ae426082"
)


def test_a_failed_turn_is_an_error_with_the_reason(bench: Bench) -> None:
    bench.provider.script(http_error(400, "no such luck"))
    [failed] = drive(bench, turn("try"))["turns"]
    assert kinds(failed)[-1] == "turn.failed"
    assert "no such luck" in failed["events"][-1]["error"]["message"]


def test_giving_up_ends_the_program_and_the_thread_can_go_on(bench: Bench) -> None:
    bench.provider.script(Step([created(), *message("half")], hang=True), reply("whole"))

    said = drive(bench, turn("think long", abortAt="item.completed"), turn("and now?"))

    given_up, again = said["turns"]
    assert "AbortError" in given_up["error"]
    assert kinds(again)[-1] == "turn.completed"
    assert "think long" in bench.last_input()


def test_a_folder_that_is_not_trusted_is_refused(bench: Bench) -> None:
    [refused] = drive(bench, turn("hi"), skipGitRepoCheck=False)["turns"]
    assert "trusted directory" in refused["error"]
    assert bench.provider.requests == []
