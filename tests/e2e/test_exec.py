"""`treadle exec`: one turn, its answer on standard output."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Finished, Home, run, started
from support.fake_provider import (
    FakeProvider,
    Step,
    calls,
    completed,
    created,
    function_call,
    http_error,
    item_added,
    message,
    reply,
    text_delta,
)

PIPE = asyncio.subprocess.PIPE


def events(finished: Finished) -> list[dict[str, Any]]:
    """The events that were printed, one a line."""
    return [json.loads(line) for line in finished.out.splitlines()]


async def test_standard_output_is_the_answer_and_nothing_else(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(reply("Forty-two."))

    finished = await run(home, "exec", "what is it?", cwd=workspace)

    assert (finished.code, finished.out) == (0, "Forty-two.\n"), finished.err
    assert "thread " in finished.err


async def test_the_answer_goes_to_a_file_as_well(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.script(reply("Forty-two."))
    answer = tmp_path / "answer.txt"

    finished = await run(home, "exec", "-o", str(answer), "what is it?", cwd=workspace)

    assert (finished.code, finished.out) == (0, "Forty-two.\n"), finished.err
    assert answer.read_text() == "Forty-two."


async def test_an_answer_file_that_cannot_be_written_is_named_but_the_answer_is_kept(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.script(reply("Forty-two."))
    answer = tmp_path / "missing" / "answer.txt"

    finished = await run(home, "exec", "-o", str(answer), "what is it?", cwd=workspace)

    assert (finished.code, finished.out) == (1, "Forty-two.\n")
    assert f"cannot write the answer to {answer}" in finished.err
    assert "Traceback" not in finished.err


async def test_a_later_turn_remembers_the_thread_it_goes_on_with(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(reply("I shall."), reply("Heddle."))
    first = await run(home, "exec", "remember the word heddle", cwd=workspace)
    assert first.code == 0, first.err
    thread = first.err.split("thread ")[1].split()[0]

    second = await run(home, "exec", "resume", thread, "which word?", cwd=workspace)

    assert (second.code, second.out) == (0, "Heddle.\n"), second.err
    sent = str(provider.requests[-1].body["input"])
    assert "remember the word heddle" in sent
    assert "I shall." in sent


async def test_a_thread_that_is_not_there_is_an_error(home: Home, workspace: Path) -> None:
    unknown = "01890000-0000-7000-8000-000000000000"

    finished = await run(home, "exec", "resume", unknown, "go on", cwd=workspace)

    assert (finished.code, finished.out) == (1, "")
    assert unknown in finished.err


async def test_a_failed_turn_says_why_and_exits_1(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(http_error(400, "no such luck"))

    finished = await run(home, "exec", "try", cwd=workspace)

    assert (finished.code, finished.out) == (1, "")
    assert "no such luck" in finished.err


async def test_a_home_folder_that_is_missing_is_named(bare_home: Home, workspace: Path) -> None:
    missing = Home(bare_home.folder / "missing")

    finished = await run(missing, "exec", "hello", cwd=workspace)

    assert (finished.code, finished.out) == (2, "")
    assert str(missing.folder) in finished.err
    assert "Traceback" not in finished.err


async def test_a_broken_configuration_file_is_named_with_its_place(
    home: Home, workspace: Path
) -> None:
    (home.folder / "config.toml").write_text("model = \n")

    finished = await run(home, "exec", "hello", cwd=workspace)

    assert finished.code != 0
    assert finished.out == ""
    assert "config.toml" in finished.err
    assert "Traceback" not in finished.err


async def test_ctrl_c_interrupts_the_turn(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(Step([created()], hang=True))
    async with started(home, "exec", "think long", cwd=workspace) as command:
        await provider.wait_requests(1)
        await command.err.wait_line("thread ")
        command.signal(signal.SIGINT)
        finished = await command.finish()
    assert (finished.code, finished.out) == (130, ""), finished.err
    assert "Traceback" not in finished.err


# ---------------------------------------------------------------- events for programs


async def test_json_prints_the_events_of_a_turn_with_a_command(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    call = function_call("exec_command", {"cmd": "echo out; exit 3", "login": False})
    provider.script(calls(call), reply("It failed."))

    finished = await run(home, "exec", "--json", "try it", cwd=workspace)

    assert finished.code == 0, finished.err
    told = events(finished)
    assert [(event["type"], event.get("item", {}).get("type")) for event in told] == [
        ("thread.started", None),
        ("turn.started", None),
        ("item.started", "command_execution"),
        ("item.completed", "command_execution"),
        ("item.completed", "agent_message"),
        ("turn.completed", None),
    ]
    begun, ended = told[2]["item"], told[3]["item"]
    assert begun["id"] == ended["id"]
    assert (begun["status"], begun["exit_code"]) == ("in_progress", None)
    assert (ended["status"], ended["exit_code"]) == ("failed", 3)
    assert ended["aggregated_output"] == "out\n"
    assert told[5]["usage"]["input_tokens"] == 20


async def test_json_tells_a_failure_as_error_and_turn_failed(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(http_error(400, "no such luck"))

    finished = await run(home, "exec", "--json", "try", cwd=workspace)

    told = events(finished)
    assert finished.code == 1
    assert [event["type"] for event in told[-2:]] == ["error", "turn.failed"]
    assert told[-1]["error"]["message"] == told[-2]["message"] == "no such luck"


async def test_resume_last_goes_on_with_the_newest_thread_of_the_folder(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.script(reply("I shall."), reply("Heddle."))
    first = await run(home, "exec", "--json", "the word is heddle", cwd=workspace)

    second = await run(home, "exec", "resume", "--last", "--json", "which word?", cwd=workspace)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".git").mkdir(parents=True)
    third = await run(home, "exec", "resume", "--last", "which word?", cwd=elsewhere)

    assert events(second)[0] == events(first)[0]
    assert "the word is heddle" in str(provider.requests[-1].body["input"])
    assert third.code == 1
    assert str(elsewhere) in third.err


async def test_an_output_schema_and_an_image_reach_the_model(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    (workspace / "schema.json").write_text(json.dumps(schema))
    (workspace / "dot.png").write_bytes(PNG)

    finished = await run(
        home,
        *("exec", "--output-schema", "schema.json", "-i", "dot.png", "count"),
        cwd=workspace,
    )

    body = provider.requests[-1].body
    assert finished.code == 0, finished.err
    assert body["text"]["format"]["schema"] == schema
    assert "data:image/png;base64," in str(body["input"])


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0"
    "f01f00050001ff56c72f0d0000000049454e44ae426082"
)


# ---------------------------------------------------------------- never hanging


async def test_standard_input_is_read_for_a_dash(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    async with started(home, "exec", "-", cwd=workspace, stdin=PIPE) as command:
        assert command.process.stdin is not None
        command.process.stdin.write(b"from the pipe")
        command.process.stdin.close()
        finished = await command.finish()

    assert finished.code == 0, finished.err
    assert "from the pipe" in str(provider.requests[-1].body["input"])


async def test_a_pipe_that_stays_open_holds_nothing_up_when_there_is_a_prompt(
    home: Home, workspace: Path
) -> None:
    async with started(home, "exec", "hello", cwd=workspace, stdin=PIPE) as command:
        finished = await command.finish()
    assert (finished.code, finished.out) == (0, "Done\n"), finished.err


async def test_the_thread_is_named_before_a_pipe_is_waited_for_and_the_deadline_ends_that(
    home: Home, workspace: Path
) -> None:
    asked = ("exec", "--json", "--deadline", "0.7", "-")
    async with started(home, *asked, cwd=workspace, stdin=PIPE) as command:
        await command.wait_line("thread.started")
        finished = await command.finish()
    assert finished.code == 4
    assert "deadline" in finished.err


@pytest.mark.parametrize(
    ("flag", "code", "words"),
    [("--deadline", 4, "deadline of 1 s"), ("--idle-deadline", 5, "silent for 1 s")],
)
async def test_a_turn_past_its_time_is_interrupted_with_a_code_of_its_own(
    home: Home, provider: FakeProvider, workspace: Path, flag: str, code: int, words: str
) -> None:
    provider.script(Step([created()], hang=True))

    finished = await run(home, "exec", "--json", flag, "1", "think long", cwd=workspace)

    assert finished.code == code, finished.err
    last = events(finished)[-1]
    assert last["type"] == "turn.failed"
    assert words in last["error"]["message"]


async def test_the_answers_file_grows_while_the_answer_streams(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.txt"
    head = {"type": "message", "role": "assistant", "id": "m", "content": []}
    rest = asyncio.Event()
    begun = [*message("First words.", "first"), item_added(head), text_delta("never done", "m")]
    provider.script(Step([created(), *begun, rest, completed()]))

    async with started(home, "exec", "-o", str(answer), "write", cwd=workspace) as command:
        async with asyncio.timeout(30):
            while not answer.exists() or not answer.read_text():
                await asyncio.sleep(0.02)
        assert command.process.returncode is None
        assert answer.read_text() in ("First words.", "never done")
        rest.set()
        await command.finish()


# ---------------------------------------------------------------- exit codes and refusals


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (http_error(401, "bad key"), 3),
        (http_error(429, "slow down"), 6),
        (Step([created()], cut=True), 6),
        (http_error(500, "broken"), 1),
    ],
)
async def test_the_exit_code_tells_who_can_mend_a_failure(
    home: Home, provider: FakeProvider, workspace: Path, step: Step, code: int
) -> None:
    provider.script(step)
    finished = await run(home, "exec", "try", cwd=workspace)
    assert (finished.code, finished.out) == (code, ""), finished.err


async def test_a_folder_that_nobody_trusts_is_refused_unless_told_otherwise(
    home: Home, provider: FakeProvider, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()

    refused = await run(home, "exec", "hello", cwd=plain)
    allowed = await run(home, "exec", "--skip-git-repo-check", "hello", cwd=plain)

    assert (refused.code, refused.out) == (1, "")
    assert "--skip-git-repo-check" in refused.err
    assert (allowed.code, len(provider.requests)) == (0, 1), allowed.err


async def test_no_prompt_is_misuse(home: Home, workspace: Path) -> None:
    finished = await run(home, "exec", cwd=workspace)
    assert (finished.code, finished.out) == (2, "")
    assert "no prompt" in finished.err


async def test_an_approval_that_would_need_a_person_is_declined(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    call = function_call(
        "exec_command",
        {"cmd": "touch made", "sandbox_permissions": "require_escalated", "justification": "x"},
    )
    provider.script(calls(call), reply("It was not allowed."))

    finished = await run(
        home,
        *("exec", "-c", 'approval_policy="on-request"', "-s", "read-only", "make it"),
        cwd=workspace,
    )

    assert (finished.code, finished.out) == (0, "It was not allowed.\n"), finished.err
    assert not (workspace / "made").exists()
    [told] = [i["output"] for i in provider.requests[-1].body["input"] if "output" in i]
    assert "this run is unattended" in told
