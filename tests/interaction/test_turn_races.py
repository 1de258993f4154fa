"""Interrupts, steers and starts that meet a turn at every point of its life."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step as Answer
from support.fake_provider import calls, completed, created, function_call, message, reply
from treadle.wire.protocol.errors import RpcError


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def endings(client: LabClient) -> Counter[str]:
    ended = [e.params["turn"]["id"] for e in client.heard if e.method == "turn/completed"]
    return Counter(ended)


def check_history(items: list[dict[str, Any]]) -> None:
    """Every call that the model is reminded of has its one output."""
    made = [item["call_id"] for item in items if item["type"] == "function_call"]
    answered = [item["call_id"] for item in items if item["type"] == "function_call_output"]
    assert sorted(made) == sorted(answered)


async def test_an_interrupt_at_any_moment_ends_the_turn_once(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)  # everything is loaded
        lab.provider.default = Answer(
            [created(), *message("Hello", deltas=["Hel", "lo"]), completed()]
        )
        started: list[str] = []
        for moment in range(0, 120, 3):
            begun = await client.call("turn/start", turn(thread_id))
            started.append(begun.turn.id)
            await steps(moment)
            try:
                await client.request(
                    "turn/interrupt", {"threadId": thread_id, "turnId": begun.turn.id}
                )
            except RpcError as error:
                assert error.message == "no active turn to interrupt"  # noqa: PT017
            await client.until("turn/completed", lambda p, i=begun.turn.id: p["turn"]["id"] == i)
        await client.settle()
        counted = endings(client)
        assert {turn_id: counted[turn_id] for turn_id in started} == dict.fromkeys(started, 1)
        read = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
        told = {
            e.params["turn"]["id"]: e.params["turn"]["status"]
            for e in client.heard
            if e.method == "turn/completed"
        }
        stored = {t["id"]: t["status"] for t in read["thread"]["turns"]}
        assert stored == told
        assert set(told.values()) <= {"completed", "interrupted"}
        assert read["thread"]["status"] == {"type": "idle"}


@pytest.mark.parametrize("command", ["true", "sleep 300"])
async def test_an_interrupt_around_a_command_leaves_a_history_that_works(
    tmp_path: Path, command: str
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        for number, moment in enumerate((0, 10, 30, 60, 100)):
            call = function_call("exec_command", {"cmd": command}, f"call-{number}")
            lab.provider.script(calls(call))
            begun = await client.call("turn/start", turn(thread_id))
            if number:
                await lab.provider.wait_requests(len(lab.provider.requests) or 1)
            await steps(moment)
            await client.request("turn/interrupt", {"threadId": thread_id, "turnId": ""})
            await client.until("turn/completed", lambda p, i=begun.turn.id: p["turn"]["id"] == i)
            lab.provider._steps.clear()
        await lab.run_turn(client, thread_id, "and now")
        check_history(lab.provider.requests[-1].body["input"])


async def test_a_steer_at_any_moment_joins_the_turn_or_is_refused(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)
        lab.provider.default = reply("Hello")
        joined: list[str] = []
        for moment in range(0, 120, 4):
            begun = await client.call("turn/start", turn(thread_id))
            await steps(moment)
            text = f"steer-{moment}"
            params = turn(thread_id, text, expectedTurnId=begun.turn.id)
            try:
                await client.request("turn/steer", params)
            except RpcError as error:
                assert error.message == "no active turn to steer"  # noqa: PT017
            else:
                joined.append(text)
            await client.until("turn/completed", lambda p, i=begun.turn.id: p["turn"]["id"] == i)
        assert joined
        await lab.run_turn(client, thread_id, "what did I say?")
        sent = json.dumps(lab.provider.requests[-1].body["input"])
        assert [text for text in joined if f'"{text}"' not in sent] == []
        assert max(endings(client).values()) == 1


async def test_turns_of_many_threads_run_side_by_side(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        ids = [await lab.start_thread(client) for _ in range(12)]
        go = asyncio.Event()
        lab.provider.default = Answer([created(), go, *message("ok"), completed()])
        for thread_id in ids:
            await client.request("turn/start", turn(thread_id))
        await lab.provider.wait_requests(len(ids))  # all are in flight at once
        go.set()
        done: set[str] = set()
        while len(done) < len(ids):
            ended = await client.until("turn/completed")
            assert ended["turn"]["status"] == "completed"
            done.add(ended["threadId"])
        assert done == set(ids)
