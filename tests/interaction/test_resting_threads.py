"""Idle threads beyond a bound leave memory; whoever watches them notices nothing."""

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import (
    Step,
    calls,
    completed,
    created,
    function_call,
    message,
    reply,
)
from treadle.domain.event_log import STRIDE
from treadle.wire.protocol.errors import RpcError

BOUND = 3


def bounded(count: int = BOUND) -> str:
    return f"max_loaded_threads = {count}"


async def gauges(client: LabClient) -> dict[str, int]:
    facts = await client.request("server/diagnostics", {})
    return {gauge["name"]: gauge["value"] for gauge in facts["gauges"]}


async def until_at_most(client: LabClient, loaded: int) -> dict[str, int]:
    """Wait until no more threads than that are in memory; the gauges."""
    async with asyncio.timeout(20):
        while (found := await gauges(client))["app.threads.loaded"] > loaded:
            await asyncio.sleep(0)
    return found


async def worked(lab: AppLab, client: LabClient, count: int) -> list[str]:
    """Threads that had a turn each, oldest first."""
    ids = [await lab.start_thread(client) for _ in range(count)]
    for thread_id in ids:
        await lab.run_turn(client, thread_id, f"first of {thread_id}")
    return ids


def numbers(client: LabClient, thread_id: str) -> list[int]:
    seen = [m for m in client.tap.seen if (m.get("params") or {}).get("threadId") == thread_id]
    return [m["seq"] for m in seen if "seq" in m]


def told(client: LabClient, thread_id: str) -> list[str]:
    return [e.method for e in client.heard if (e.params or {}).get("threadId") == thread_id]


async def test_threads_beyond_the_bound_rest_and_nobody_is_told(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded()) as lab:
        client = await lab.connect(experimental=True)
        ids = await worked(lab, client, 12)
        found = await until_at_most(client, BOUND)
        assert found["app.threads.loaded"] + found["app.threads.resting"] == 12
        await client.settle()
        for thread_id in ids:
            assert not {"thread/closed"} & set(told(client, thread_id))
            shown = (await client.request("thread/read", {"threadId": thread_id}))["thread"]
            assert shown["status"] == {"type": "idle"}
            assert shown["canAcceptDirectInput"] is True
        assert (await client.request("thread/loaded/list", {}))["data"] == ids
        page = await client.request("thread/list", {"sourceKinds": ["vscode", "appServer"]})
        assert {row["id"]: row["status"]["type"] for row in page["data"]} == dict.fromkeys(
            ids, "idle"
        )
        turns = await client.request("thread/turns/list", {"threadId": ids[0]})
        assert len(turns["data"]) == 1
        # Reading brought none of them back.
        assert (await gauges(client))["app.threads.loaded"] <= BOUND


async def test_the_next_turn_of_a_thread_at_rest_goes_on_where_it_was(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        client = await lab.connect(experimental=True)
        first, *_ = await worked(lab, client, 3)
        await until_at_most(client, 1)
        heard = len(client.heard)
        await lab.run_turn(client, first, "second")
        said = str(lab.provider.requests[-1].body["input"])
        assert said.index(f"first of {first}") < said.index("second")
        await client.settle()
        since = [
            e.method for e in client.heard[heard:] if (e.params or {}).get("threadId") == first
        ]
        assert since[0] == "thread/status/changed"
        assert since.count("turn/started") == since.count("turn/completed") == 1
        seen = numbers(client, first)
        for before, after in itertools.pairwise(seen):
            assert after == before + 1 or after == (before // STRIDE + 1) * STRIDE
        missed = {"threadId": first, "afterSeq": 0}
        listed = await client.request("thread/events/list", missed)
        methods = [event["method"] for event in listed["data"]]
        assert (methods.count("turn/completed"), listed["lastSeq"]) == (2, seen[-1])


async def test_a_thread_comes_back_with_the_settings_it_had(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        client = await lab.connect(experimental=True)
        session = await client.request(
            "thread/start",
            {
                "cwd": str(lab.work),
                "model": "one-model",
                "sandbox": "read-only",
                "developerInstructions": "Mind the shuttle.",
            },
        )
        thread_id = session["thread"]["id"]
        await lab.run_turn(client, thread_id)
        await client.request("turn/start", turn(thread_id, model="another-model", effort="low"))
        await client.until("turn/completed", lambda p: p["threadId"] == thread_id)
        before = (await client.request("thread/read", {"threadId": thread_id}))["thread"]
        await worked(lab, client, 2)
        found = await until_at_most(client, 1)
        assert found["app.threads.resting"] == 2
        assert (await client.request("thread/read", {"threadId": thread_id}))["thread"] == before
        await lab.run_turn(client, thread_id, "again")
        body = lab.provider.requests[-1].body
        assert (body["model"], body["reasoning"]["effort"]) == ("another-model", "low")
        assert "Mind the shuttle." in str(body["input"])
        resumed = await client.request("thread/resume", {"threadId": thread_id})
        assert resumed["sandbox"]["type"] == "readOnly"
        assert "thread/settings/updated" not in told(client, thread_id)[-12:]


async def test_a_thread_that_somebody_works_in_never_rests(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        client = await lab.connect(experimental=True)
        running = asyncio.Event()
        idle = (await worked(lab, client, 1))[0]
        busy = await lab.start_thread(client)
        lab.provider.script(Step([created(), running, *message("slow"), completed()]))
        await client.request("turn/start", turn(busy))
        fresh = await lab.start_thread(client)
        await worked(lab, client, 1)
        # The one that runs and the one that nothing is stored of stay, whatever the bound says.
        found = await until_at_most(client, 2)
        assert found["app.threads.resting"] == 2
        running.set()
        done = await client.until("turn/completed", lambda p: p["threadId"] == busy)
        assert done["turn"]["status"] == "completed"
        assert (await until_at_most(client, 1))["app.threads.resting"] == 3
        await lab.run_turn(client, fresh)
        await lab.run_turn(client, idle)
        assert (await until_at_most(client, 1))["app.threads.resting"] == 3


async def test_what_is_granted_for_the_session_keeps_its_thread_in_memory(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        client = await lab.connect(experimental=True)
        granted = await lab.start_thread(client, model="gpt-5.5")
        careful = {
            "approvalPolicy": "untrusted",
            "sandboxPolicy": {"type": "workspaceWrite", "networkAccess": False},
        }
        touch = function_call("exec_command", {"cmd": "touch a.txt"})
        lab.provider.script(calls(touch))
        await client.request("turn/start", turn(granted, **careful))
        while not (question := await client.next_event()).wants_answer:
            pass
        other = await lab.connect(experimental=True)
        await worked(lab, other, 3)
        # It waits for an approval, which nothing puts out of memory.
        assert (await until_at_most(other, 1))["app.threads.resting"] == 3
        client.respond(question, {"decision": "acceptForSession"})
        await client.until("turn/completed")
        await worked(lab, other, 1)
        assert (await until_at_most(other, 1))["app.threads.resting"] == 4
        lab.provider.script(calls(touch), reply("Done"))
        await lab.run_turn(client, granted)
        assert not any(event.wants_answer for event in client.heard)


async def test_who_stops_watching_a_thread_at_rest_closes_it(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        client = await lab.connect(experimental=True)
        other = await lab.connect()
        ids = await worked(lab, other, 3)
        await until_at_most(client, 1)
        answer = await other.request("thread/unsubscribe", {"threadId": ids[0]})
        assert answer["status"] == "unsubscribed"
        closed = await client.until("thread/closed")
        assert closed["threadId"] == ids[0]
        statuses = [e.params for e in client.heard if e.method == "thread/status/changed"]
        assert statuses[-1] == {"threadId": ids[0], "status": {"type": "notLoaded"}}
        answer = await other.request("thread/unsubscribe", {"threadId": ids[0]})
        assert answer["status"] == "notLoaded"
        await other.close()
        gone = {(await client.until("thread/closed"))["threadId"] for _ in ids[1:]}
        assert gone == set(ids[1:])
        assert (await client.request("thread/loaded/list", {}))["data"] == []
        # It is stored, and can be resumed as ever.
        resumed = await client.request("thread/resume", {"threadId": ids[0]})
        assert len(resumed["thread"]["turns"]) == 1


async def test_threads_at_rest_are_archived_and_deleted_as_loaded_ones_are(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        client = await lab.connect(experimental=True)
        ids = await worked(lab, client, 3)
        await until_at_most(client, 1)
        await client.request("thread/archive", {"threadId": ids[0]})
        await client.request("thread/delete", {"threadId": ids[1]})
        await client.settle()
        for thread_id, method in zip(ids, ("thread/archived", "thread/deleted"), strict=False):
            heard = told(client, thread_id)
            assert heard[-1] == method
            assert "thread/closed" not in heard
        assert (await client.request("thread/loaded/list", {}))["data"] == ids[2:]


async def test_requests_that_come_together_bring_a_thread_back_once(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        client = await lab.connect(experimental=True)
        first, *_ = await worked(lab, client, 2)
        await until_at_most(client, 1)
        one, two, *_ = await asyncio.gather(
            client.request("thread/resume", {"threadId": first}),
            client.request("turn/start", turn(first, "more")),
            client.request("turn/interrupt", {"threadId": first, "turnId": ""}),
            client.request("thread/name/set", {"threadId": first, "name": "Named"}),
        )
        assert one["thread"]["id"] == first
        done = await client.until("turn/completed", lambda p: p["turn"]["id"] == two["turn"]["id"])
        assert done["threadId"] == first
        shown = (await client.request("thread/read", {"threadId": first}))["thread"]
        assert shown["name"] == "Named"


async def test_a_thread_at_rest_that_another_process_took_is_refused_by_name(tmp_path: Path):
    async with AppLab(tmp_path, "stdio", extra=bounded(1)) as lab:
        client, other = await lab.connect(experimental=True), await lab.connect()
        first, *_ = await worked(lab, client, 3)
        await until_at_most(client, 1)
        await other.request("thread/resume", {"threadId": first})
        with pytest.raises(RpcError, match=r"active writer \(pid \d+"):
            await client.request("turn/start", turn(first))
        await other.request("thread/unsubscribe", {"threadId": first})
        await other.until("thread/closed")
        await lab.run_turn(client, first)


async def test_without_a_bound_nothing_rests(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra=bounded(0)) as lab:
        client = await lab.connect(experimental=True)
        await worked(lab, client, 5)
        found = await gauges(client)
        assert (found["app.threads.loaded"], found["app.threads.resting"]) == (5, 0)


BROADCAST = ("thread/status/changed", "thread/name/updated", "thread/closed")


async def ask_at_random(client: LabClient, thread_id: str, chance: random.Random) -> None:
    """One request about a thread, which may have been left by all its watchers meanwhile."""
    method, params = chance.choice(
        [
            ("turn/start", turn(thread_id)),
            ("turn/start", turn(thread_id, effort=chance.choice(["low", "high"]))),
            ("turn/interrupt", {"threadId": thread_id, "turnId": ""}),
            ("thread/read", {"threadId": thread_id, "includeTurns": True}),
            ("thread/resume", {"threadId": thread_id}),
            ("thread/unsubscribe", {"threadId": thread_id}),
            ("thread/name/set", {"threadId": thread_id, "name": str(chance.random())}),
            ("thread/loaded/list", {}),
            ("thread/list", {"modelProviders": []}),
        ]
    )
    try:
        await client.request(method, params)
    except RpcError as error:
        if error.message != f"thread not found: {thread_id}":
            raise


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_clients_do_each_hears_a_thread_in_order(tmp_path: Path, seed: int):
    chance = random.Random(seed)
    async with AppLab(tmp_path, "memory", extra=bounded(1)) as lab:
        clients = [await lab.connect(experimental=True) for _ in range(3)]
        ids = [thread_id for client in clients for thread_id in await worked(lab, client, 2)]

        async def work() -> None:
            for _ in range(50):
                await ask_at_random(chance.choice(clients), chance.choice(ids), chance)

        await asyncio.gather(*(work() for _ in range(4)))
        for client in clients:
            await client.settle()
            last: dict[str, int] = {}
            for entry in client.tap.seen:
                thread_id = str((entry.get("params") or {}).get("threadId") or "")
                if entry.get("method") == "thread/closed":
                    last.pop(thread_id, None)
                elif thread_id and "seq" in entry and entry["method"] not in BROADCAST:
                    assert entry["seq"] > last.get(thread_id, 0)
                    last[thread_id] = entry["seq"]
        for thread_id in ids:
            await clients[0].request("thread/resume", {"threadId": thread_id})
            await lab.run_turn(clients[0], thread_id)
        assert (await until_at_most(clients[0], 1))["app.threads.loaded"] == 1
