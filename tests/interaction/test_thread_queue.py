"""Messages that wait for a busy thread: one turn each, in order, once, whatever happens."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, completed, created, message
from treadle.wire.protocol.errors import RpcError


def words(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]


async def add(client: LabClient, thread_id: str, *texts: str) -> list[str]:
    """Queue texts; the ids they wait under."""
    ids: list[str] = []
    for text in texts:
        params = {"threadId": thread_id, "clientUserMessageId": f"c-{text}", "input": words(text)}
        answer = await client.request("thread/queue/add", params)
        ids.append(answer["queuedSubmission"]["id"])
    return ids


async def waiting(client: LabClient, thread_id: str) -> list[str]:
    found = await client.request("thread/queue/list", {"threadId": thread_id})
    return [each["input"][0]["text"] for each in found["data"]]


async def said(client: LabClient, thread_id: str) -> list[str]:
    """All that the user said, in order."""
    found = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
    return [
        item["content"][0]["text"]
        for each in found["thread"]["turns"]
        for item in each["items"]
        if item["type"] == "userMessage"
    ]


async def busy(lab: AppLab, client: LabClient) -> tuple[str, str, asyncio.Event]:
    """A thread whose turn waits for the event; the ids of both."""
    gate = asyncio.Event()
    lab.provider.script(Step([created(), *message("late"), gate, completed()]))
    thread_id = await lab.start_thread(client)
    answer = await client.request("turn/start", turn(thread_id, "busy"))
    await lab.provider.wait_requests(1)
    return thread_id, answer["turn"]["id"], gate


async def test_waiting_messages_get_a_turn_each_in_order(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id, _, gate = await busy(lab, client)
        await add(client, thread_id, "a", "b")
        assert await waiting(client, thread_id) == ["a", "b"]
        gate.set()
        for _ in range(3):
            await client.until("turn/completed")
        assert await said(client, thread_id) == ["busy", "a", "b"]
        assert await waiting(client, thread_id) == []
        assert len(lab.provider.requests) == 3


async def test_an_idle_thread_takes_a_message_at_once(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client)
        await add(client, thread_id, "now")
        await client.until("turn/completed")
        assert await said(client, thread_id) == ["now"]
        with pytest.raises(RpcError, match="queue is empty"):
            await client.request("thread/queue/start", {"threadId": thread_id})


async def test_an_interrupt_holds_the_queue_until_it_is_started(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id, turn_id, _ = await busy(lab, client)
        first, second = await add(client, thread_id, "a", "b")
        with pytest.raises(RpcError, match="active or pending turn"):
            await client.request("thread/queue/start", {"threadId": thread_id})
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": turn_id})
        await client.until("turn/completed")
        await client.settle()
        assert await waiting(client, thread_id) == ["a", "b"]
        order = {"threadId": thread_id, "queuedSubmissionIds": [second, first]}
        assert await client.request("thread/queue/reorder", order) == {}
        started = await client.request("thread/queue/start", {"threadId": thread_id})
        done = await client.until("turn/completed")
        assert done["turn"]["id"] == started["turn"]["id"]
        await client.until("turn/completed")
        assert await said(client, thread_id) == ["busy", "b", "a"]


async def test_waiting_messages_are_changed_and_taken_away(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id, _, gate = await busy(lab, client)
        first, second = await add(client, thread_id, "a", "b")
        which = {"threadId": thread_id, "queuedSubmissionId": first}
        await client.request("thread/queue/update", {**which, "input": words("changed")})
        which["queuedSubmissionId"] = second
        for deleted in (True, False):
            assert await client.request("thread/queue/delete", which) == {"deleted": deleted}
        for method, params, text in (
            ("update", {**which, "input": words("x")}, "queued submission not found"),
            ("reorder", {"threadId": thread_id, "queuedSubmissionIds": []}, "exactly once"),
            (
                "add",
                {"threadId": thread_id, "clientUserMessageId": "c", "input": []},
                "only user input",
            ),
        ):
            with pytest.raises(RpcError, match=text):
                await client.request(f"thread/queue/{method}", params)
        gate.set()
        for _ in range(2):
            await client.until("turn/completed")
        assert await said(client, thread_id) == ["busy", "changed"]


async def test_a_killed_server_loses_no_waiting_message_and_says_none_twice(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect(experimental=True)
        thread_id, _, _ = await busy(lab, first)
        await add(first, thread_id, "a", "b")
        lab.kill()
        second = await lab.connect(experimental=True)
        assert await waiting(second, thread_id) == ["a", "b"]
        await second.request("thread/resume", {"threadId": thread_id})
        for _ in range(2):
            await second.until("turn/completed")
        assert await said(second, thread_id) == ["busy", "a", "b"]
        lab.kill()
        third = await lab.connect(experimental=True)
        await third.request("thread/resume", {"threadId": thread_id})
        await third.settle()
        assert "turn/started" not in third.methods()
        assert await said(third, thread_id) == ["busy", "a", "b"]


async def test_a_message_left_with_a_stored_thread_waits_for_its_resume(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect()
        thread_id = await lab.start_thread(first)
        await lab.run_turn(first, thread_id, "one")
        lab.kill()
        second = await lab.connect(experimental=True)
        await add(second, thread_id, "later")
        assert await waiting(second, thread_id) == ["later"]
        await second.request("thread/resume", {"threadId": thread_id})
        await second.until("turn/completed")
        assert await said(second, thread_id) == ["one", "later"]


async def test_a_queue_outlives_turns_taken_back_and_does_not_go_into_forks(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id, turn_id, _ = await busy(lab, client)
        await add(client, thread_id, "kept")
        await client.request("turn/interrupt", {"threadId": thread_id, "turnId": turn_id})
        await client.until("turn/completed")
        await client.settle()
        fork = (await client.request("thread/fork", {"threadId": thread_id}))["thread"]["id"]
        assert await waiting(client, fork) == []
        await client.request("thread/rollback", {"threadId": thread_id, "numTurns": 1})
        assert await waiting(client, thread_id) == ["kept"]
