"""What a client hears when the provider fails: one story, whatever went wrong; then all goes on."""

import asyncio
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
    incomplete,
    message,
    reply,
)


def disconnected(kind: str, status: int | None) -> dict[str, Any]:
    return {kind: {"httpStatusCode": status}}


FAILURES = [
    (http_error(400, "no such luck"), "other", "no such luck"),
    (http_error(400, "x", code="context_length_exceeded"), "contextWindowExceeded", "context"),
    (http_error(401, "who"), disconnected("httpConnectionFailed", 401), "401 Unauthorized: who"),
    (http_error(404, "what"), disconnected("httpConnectionFailed", 404), "404 Not Found"),
    (http_error(429, "hm"), disconnected("responseTooManyFailedAttempts", 429), "429"),
    (http_error(429, "u", type="usage_limit_reached"), "usageLimitExceeded", "usage limit"),
    (http_error(500, "oh"), "internalServerError", "500 Internal"),
    (http_error(502, "gate"), disconnected("httpConnectionFailed", 502), "502 Bad Gateway"),
    (http_error(503, "x", code="server_is_overloaded"), "serverOverloaded", "capacity"),
    (Step([created(), failed("rate_limit_exceeded")]), "rateLimitExceeded", "rate limit"),
    (Step([created(), failed("insufficient_quota")]), "usageLimitExceeded", "Quota exceeded"),
    (Step([created(), failed("invalid_prompt", "bad words")]), "other", "bad words"),
    (Step([created(), failed("cyber_policy", "no")]), "cyberPolicy", "no"),
    (Step([created(), incomplete("max_output_tokens")]), "other", "max_output_tokens"),
    (Step([created()]), "other", "stream closed before response.completed"),
    (Step([created()], cut=True), "other", "stream disconnected before completion"),
]


def story(client: LabClient) -> list[tuple[str, Any]]:
    """The end of a turn as it was told."""
    told = {
        "thread/status/changed": lambda p: p["status"]["type"],
        "error": lambda p: p["willRetry"],
        "turn/completed": lambda p: p["turn"]["status"],
    }
    return [(e.method, told[e.method](e.params)) for e in client.heard if e.method in told]


@pytest.mark.parametrize(("step", "info", "words"), FAILURES)
async def test_a_failure_is_told_once_with_its_kind_and_the_next_turn_works(
    tmp_path: Path, step: Step, info: Any, words: str
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(step)
        ended = await lab.run_turn(client, thread_id)

        assert ended["status"] == "failed"
        assert ended["error"]["codexErrorInfo"] == info
        assert words in ended["error"]["message"]
        assert story(client)[-3:] == [
            ("thread/status/changed", "systemError"),
            ("error", False),
            ("turn/completed", "failed"),
        ]
        [error] = [e.params["error"] for e in client.heard if e.method == "error"]
        assert error == ended["error"]
        read = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
        assert read["thread"]["status"] == {"type": "systemError"}
        assert read["thread"]["turns"][0]["error"] == error

        assert (await lab.run_turn(client, thread_id, "again"))["status"] == "completed"
        read = await client.request("thread/read", {"threadId": thread_id})
        assert read["thread"]["status"] == {"type": "idle"}


async def test_a_retry_after_a_command_does_not_run_it_again(tmp_path: Path):
    async with AppLab(tmp_path, "memory", retries=3) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        call = function_call("exec_command", {"cmd": "echo ran >> times", "login": False})
        cut = Step([created(), *message("half")[:2]], cut=True)
        lab.provider.script(calls(call), cut, cut, reply("Done at last."))

        ended = await lab.run_turn(client, thread_id)

        assert ended["status"] == "completed"
        assert (lab.work / "times").read_text() == "ran\n"
        bodies = [request.body["input"] for request in lab.provider.requests]
        assert bodies[1] == bodies[2] == bodies[3]
        retries = [e.params for e in client.heard if e.method == "error"]
        assert [e["willRetry"] for e in retries] == [True, True]
        assert retries[0]["error"]["message"] == "Reconnecting... 1/3"
        assert retries[0]["error"]["additionalDetails"]
        words = [
            e.params["item"]["text"]
            for e in client.heard
            if e.method == "item/completed" and e.params["item"]["type"] == "agentMessage"
        ]
        assert words == ["Done at last."]


async def test_a_provider_that_is_not_there_is_given_up_in_bounded_time(tmp_path: Path):
    async with AppLab(tmp_path, "memory", retries=1) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.provider.__aexit__()
        async with asyncio.timeout(15):
            ended = await lab.run_turn(client, thread_id)
        assert ended["status"] == "failed"
        told = [e.params["willRetry"] for e in client.heard if e.method == "error"]
        assert told == [True] * (len(told) - 1) + [False]
        assert len(told) > 1


async def test_the_wait_that_a_provider_asks_for_can_be_interrupted(tmp_path: Path):
    async with AppLab(tmp_path, "memory", retries=1) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        busy = Step(status=429, body="{}", headers={"retry-after": "300"})
        lab.provider.script(busy)
        await client.request("turn/start", turn(thread_id))
        told = await client.until("error")
        assert told["willRetry"]
        async with asyncio.timeout(5):
            await client.request("turn/interrupt", {"threadId": thread_id, "turnId": ""})
            ended = await client.until("turn/completed")
        assert ended["turn"]["status"] == "interrupted"
        assert (await lab.run_turn(client, thread_id))["status"] == "completed"


async def test_comments_alone_keep_a_silent_stream_alive(tmp_path: Path):
    extra = "stream_idle_timeout_ms = 400"
    async with AppLab(tmp_path, "memory", retries=0) as lab:
        config = lab.home / "config.toml"
        config.write_text(config.read_text() + f"\n{extra}\n")
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        beats = [asyncio.Event() for _ in range(6)]
        parts: list[Any] = [created()]
        for beat in beats:
            parts += [": still here\n\n", beat]
        lab.provider.script(Step([*parts, *message("At last."), completed()]))
        await client.request("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        for beat in beats:
            await asyncio.sleep(0.15)  # the silence itself is what is tested
            beat.set()
        ended = await client.until("turn/completed")
        assert ended["turn"]["status"] == "completed"
        assert "error" not in client.methods()
        assert len(lab.provider.requests) == 1
