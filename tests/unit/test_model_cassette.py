"""Recordings of model exchanges: what they hold, what they refuse."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from treadle.domain.turns import TokenUsage
from treadle.engine.model.cassette import CassettePlayer, CassetteRecorder
from treadle.engine.model.model_client import (
    ModelError,
    ModelEvent,
    ModelRequest,
    OutputItemDone,
    OutputTextDelta,
    ResponseCompleted,
    ResponseStarted,
    Retrying,
)
from treadle.engine.model.portrait import mask_secrets, normalise

USAGE = TokenUsage(total_tokens=15, input_tokens=10, output_tokens=5)
DONE = ResponseCompleted(response_id="r", usage=USAGE)
SECRET = "sk-abcdefghijklmnopqrstuvwxyz123456"


class Scripted:
    """A client that answers each request with the next list of batches."""

    def __init__(self, *answers: list[list[ModelEvent]] | ModelError) -> None:
        self.answers = list(answers)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        answer = self.answers.pop(0)
        if isinstance(answer, ModelError):
            raise answer
        for batch in answer:
            yield batch

    async def close(self) -> None:
        self.answers.clear()


def says(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def context(cwd: str) -> dict[str, Any]:
    return says("user", f"<environment_context>\n  <cwd>{cwd}</cwd>\n</environment_context>")


def request(*items: dict[str, Any], thread: str = "t", **changes: Any) -> ModelRequest:
    members: dict[str, Any] = {
        "model": "demo",
        "input": list(items),
        "tools": [{"type": "function", "name": "exec_command"}],
        "thread_id": thread,
        "session_id": thread,
        "turn_id": "u",
    }
    return ModelRequest(**{**members, **changes})


async def collect(client: Any, asked: ModelRequest) -> list[ModelEvent]:
    return [event async for batch in client.stream(asked) for event in batch]


async def record(path: Path, *exchanges: tuple[ModelRequest, list[ModelEvent]]) -> None:
    recorder = CassetteRecorder(Scripted(*([answer] for _, answer in exchanges)), path)
    for asked, _ in exchanges:
        await collect(recorder, asked)


def call(command: str) -> OutputItemDone:
    arguments = json.dumps({"cmd": command})
    return OutputItemDone(
        {"type": "function_call", "name": "exec_command", "call_id": "c", "arguments": arguments}
    )


async def test_a_recording_plays_back_the_same_events(tmp_path: Path):
    events: list[ModelEvent] = [
        ResponseStarted("r", "demo-2"),
        OutputTextDelta("Hel", "m"),
        OutputTextDelta("lo", "m"),
        OutputTextDelta("!", None),
        Retrying(
            "Reconnecting... 1/5", {"responseStreamDisconnected": {"httpStatusCode": 502}}, "x"
        ),
        call("ls"),
        DONE,
    ]
    asked = request(says("user", "hi"))
    await record(tmp_path / "tape", (asked, events))
    assert await collect(CassettePlayer(tmp_path / "tape"), asked) == events


async def test_another_run_matches_despite_ids_times_and_workspaces(tmp_path: Path):
    def run(cwd: str, day: str, wall: str, chunk: str, thread: str) -> list[ModelRequest]:
        first = [
            says("developer", f"rules of {day}"),
            context(cwd),
            says("user", f"Look at {cwd}/a"),
        ]
        output = f"Chunk ID: {chunk}\nWall time: {wall} seconds\nOutput:\n{cwd}/a {day} 1f3c9ab\n"
        answered = {"type": "function_call_output", "call_id": chunk, "output": output}
        return [request(*first, thread=thread), request(*first, answered, thread=thread)]

    then = run("/home/ann/work", "2026-11-21", "0.0297", "57a560", "thread-a")
    now = run("/srv/w2", "2027-01-02", "1.5", "00ffee", "thread-b")
    tape = tmp_path / "tape"
    await record(tape, (then[0], [call("cat /home/ann/work/a"), DONE]), (then[1], [DONE]))
    assert "/home/ann" not in tape.read_text()
    player = CassettePlayer(tape)
    assert await collect(player, now[0]) == [call("cat /srv/w2/a"), DONE]
    assert await collect(player, now[1]) == [DONE]


@pytest.mark.parametrize(
    ("changed", "telling"),
    [
        (request(says("user", "something else")), "something else"),
        (request(says("user", "hi"), model="other"), '"model": "other"'),
        (request(says("user", "hi"), tools=[]), "exec_command"),
        (request(says("assistant", "hi")), '"role": "assistant"'),
        (request(says("user", "hi"), says("user", "more")), "more"),
    ],
)
async def test_a_request_that_differs_is_refused_and_shown(
    tmp_path: Path, changed: ModelRequest, telling: str
):
    await record(tmp_path / "tape", (request(says("user", "hi")), [DONE]))
    with pytest.raises(ModelError) as caught:
        await collect(CassettePlayer(tmp_path / "tape"), changed)
    assert "request 1 differs from tape" in caught.value.message
    assert telling in caught.value.message
    assert not caught.value.retry_stream


async def test_only_the_new_part_of_the_conversation_is_recorded(tmp_path: Path):
    first = request(says("user", "one"))
    second = request(says("user", "one"), says("assistant", "1"), says("user", "two"))
    tape = tmp_path / "tape"
    await record(tape, (first, [DONE]), (second, [DONE]))
    requests = [
        json.loads(line)["request"] for line in tape.read_text().splitlines() if '"request"' in line
    ]
    assert [item["text"] for item in requests[1]["input"]] == [["1"], ["two"]]


async def test_a_rewritten_history_is_noticed(tmp_path: Path):
    first = request(says("user", "one"), says("user", "two"))
    await record(tmp_path / "tape", (first, [DONE]), (request(says("user", "one")), [DONE]))
    player = CassettePlayer(tmp_path / "tape")
    await collect(player, first)
    with pytest.raises(ModelError, match="kept"):
        await collect(player, request(says("user", "one"), says("user", "two")))


async def test_the_end_of_the_recording_is_an_error(tmp_path: Path):
    asked = request(says("user", "hi"))
    await record(tmp_path / "tape", (asked, [DONE]))
    player = CassettePlayer(tmp_path / "tape")
    await collect(player, asked)
    with pytest.raises(ModelError, match="holds 1 exchanges and this is request 2"):
        await collect(player, asked)


async def test_failures_are_recorded_and_fail_again(tmp_path: Path):
    failure = ModelError("slow down", info="rateLimitExceeded", retry_stream=True, http_status=429)
    recorder = CassetteRecorder(Scripted(failure), tmp_path / "tape")
    for client in (recorder, CassettePlayer(tmp_path / "tape")):
        with pytest.raises(ModelError) as caught:
            await collect(client, request())
        again = caught.value
        assert (again.message, again.info, again.retry_stream, again.http_status) == (
            "slow down",
            "rateLimitExceeded",
            True,
            429,
        )


async def test_no_secret_reaches_the_file(tmp_path: Path):
    asked = request(says("user", f"my key is {SECRET}"))
    half = len(SECRET) // 2
    events: list[ModelEvent] = [
        OutputTextDelta(f"use {SECRET[:half]}", "m"),
        OutputTextDelta(SECRET[half:], "m"),
        call(f"curl -H 'Authorization: Bearer {SECRET}'"),
        OutputItemDone({"type": "reasoning", "encrypted_content": "sealed-by-provider"}),
        DONE,
    ]
    await record(tmp_path / "tape", (asked, events))
    text = (tmp_path / "tape").read_text()
    assert SECRET[:half] not in text
    assert SECRET[half:] not in text
    assert "sealed-by-provider" not in text
    assert events[3] == OutputItemDone(
        {"type": "reasoning", "encrypted_content": "sealed-by-provider"}
    )
    assert (await collect(CassettePlayer(tmp_path / "tape"), asked))[0] == OutputTextDelta(
        "use [secret]", "m"
    )


async def test_an_exchange_that_was_left_early_ends_the_playback_with_a_reason(tmp_path: Path):
    recorder = CassetteRecorder(Scripted([[OutputTextDelta("a", "m")], [DONE]]), tmp_path / "tape")
    stream = recorder.stream(request())
    await anext(stream)
    await stream.aclose()
    player = CassettePlayer(tmp_path / "tape").stream(request())
    assert await anext(player) == [OutputTextDelta("a", "m")]
    with pytest.raises(ModelError, match="left early"):
        await anext(player)


async def test_a_pace_spreads_the_events(tmp_path: Path):
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    await record(tmp_path / "tape", (request(), [OutputTextDelta("a"), OutputTextDelta("b"), DONE]))
    await collect(CassettePlayer(tmp_path / "tape", pace_seconds=0.05, sleep=sleep), request())
    assert waits == [0.05, 0.05, 0.05]


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ('{"treadle_cassette": 99}\n', "line 1: a cassette of format 1"),
        ("[]\n", "line 1"),
        ('{"treadle_cassette": 1}\n{"event": "completed"}\n', "line 2: expected a request"),
        ('{"treadle_cassette": 1}\n{"request": {}}\n{"event": "nope"}\n', "unknown event 'nope'"),
        ('{"treadle_cassette": 1}\n{"request": {}}\n{"event": "text"}\n', "line 3"),
        ('{"treadle_cassette": 1}\nnot json\n', "line 2"),
    ],
)
async def test_a_broken_file_says_where_it_is_broken(tmp_path: Path, text: str, telling: str):
    (tmp_path / "tape").write_text(text)
    with pytest.raises(ModelError) as caught:
        await collect(CassettePlayer(tmp_path / "tape"), request())
    assert telling in caught.value.message


async def test_a_missing_file_is_a_clear_error_without_its_path(tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        await collect(CassettePlayer(tmp_path / "none"), request())
    assert "none cannot be read" in caught.value.message
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Wall time: 0.0297 seconds", "Wall time: 12 seconds"),
        ("Chunk ID: 57a560\nOutput:", "Chunk ID: ffffff\nOutput:"),
        ("running with session ID 82864", "running with session ID 7"),
        ("Original token count: 4", "Original token count: 5"),
        ("3 passed in 0.03s", "3 passed in 1.20s"),
        ("[main 1f3c9ab] first", "[main 9d2e001] first"),
        ("at 2026-11-21T00:02:55.457Z", "at 2027-01-01T10:00:00Z"),
        ("/tmp/pytest-12/x", "/tmp/pytest-99/x"),
        ("id 019f5b1c-9d5e-7000-8000-000000000001", "id 019f5b1c-9d5e-7000-8000-000000000002"),
    ],
)
def test_what_varies_from_run_to_run_is_alike(one: str, other: str):
    assert normalise(one, None) == normalise(other, None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Process exited with code 0", "Process exited with code 1"),
        ("cat /etc/hosts", "cat /etc/passwd"),
        ("2 passed", "3 passed"),
        ("decade", "facade"),
    ],
)
def test_what_matters_stays_different(one: str, other: str):
    assert normalise(one, None) != normalise(other, None)


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        "ghp_" + "a1" * 18,
        "AKIA" + "ABCD1234" * 2,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "xoxb-123456789012-abcdef",
    ],
)
def test_credentials_are_masked_wherever_they_stand(secret: str):
    assert secret not in mask_secrets(f"export X={secret}; echo done")


def test_assigned_secrets_lose_their_value_and_keep_their_name():
    assert mask_secrets("OPENAI_API_KEY=abcdef123456") == "OPENAI_API_KEY=[secret]"
    assert mask_secrets('"password": "hunter2hunter2"') == '"password": "[secret]"'
    assert mask_secrets("token count: 12345") == "token count: 12345"
