import asyncio
import json
import uuid
from pathlib import Path

import pytest

from support.app_lab import AppLab, Kind, turn
from support.fake_provider import Step, completed, created, message
from treadle.wire.protocol.errors import INVALID_REQUEST, RpcError

BOTH = pytest.mark.parametrize("kind", ["memory", "stdio"])
NOBODY = "00000000-0000-7000-8000-000000000000"


def by_id(thread_id: str) -> dict[str, str]:
    return {"threadId": thread_id}


# ------------------------------------------------------------------ starting


@BOTH
async def test_a_new_thread_is_announced_after_its_answer_and_stores_nothing(
    tmp_path: Path, kind: Kind
):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        session = await client.call("thread/start", {"cwd": str(lab.work)})
        thread = session.thread
        assert (session.model, session.model_provider) == ("mock-model", "mock_provider")
        assert (session.cwd, session.approval_policy) == (str(lab.work), "never")
        assert (thread.preview, thread.turns, thread.ephemeral) == ("", [], False)
        assert uuid.UUID(thread.id).version == 7
        assert not Path(thread.path).exists()
        told = await client.until("thread/started")
        assert told["thread"]["id"] == thread.id
        order = [m.get("method") or "answer" for m in client.tap.seen]
        assert order.index("thread/started") > order.index("answer")
        assert (await client.request("thread/loaded/list", {}))["data"] == [thread.id]
        assert (await client.request("thread/list", {}))["data"] == []


async def test_settings_of_the_request_win_over_configuration(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        session = await client.request(
            "thread/start",
            {"model": "other", "sandbox": "read-only", "approvalPolicy": "on-request", "cwd": "."},
        )
        assert session["model"] == "other"
        assert session["sandbox"]["type"] == "readOnly"
        assert session["approvalPolicy"] == "on-request"
        assert session["cwd"] == str(lab.work)


async def test_a_provider_that_is_not_configured_is_named(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError, match="nowhere") as raised:
            await client.request("thread/start", {"modelProvider": "nowhere"})
        assert raised.value.code == INVALID_REQUEST


async def test_an_ephemeral_thread_leaves_no_trace(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client, ephemeral=True)
        await lab.run_turn(client, thread_id)
        assert (await client.request("thread/list", {}))["data"] == []
        thread = (await client.request("thread/read", by_id(thread_id)))["thread"]
        assert (thread["ephemeral"], thread["path"]) == (True, None)
        with pytest.raises(RpcError, match="ephemeral threads do not support includeTurns"):
            await client.request("thread/read", {**by_id(thread_id), "includeTurns": True})
        assert list(lab.home.rglob("*.jsonl")) == []


# ------------------------------------------------------------------ reading


@BOTH
async def test_a_thread_is_read_with_its_turns_on_request(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        fresh = {**by_id(thread_id), "includeTurns": True}
        with pytest.raises(RpcError, match="not materialized yet; includeTurns is unavailable"):
            await client.request("thread/read", fresh)
        done = await lab.run_turn(client, thread_id, "say something")
        plain = await client.call("thread/read", by_id(thread_id))
        assert (plain.thread.turns, plain.thread.preview) == ([], "say something")
        full = (await client.request("thread/read", fresh))["thread"]
        (only,) = full["turns"]
        assert (only["id"], only["status"]) == (done["id"], "completed")
        assert [item["type"] for item in only["items"]] == ["userMessage", "agentMessage"]
        assert full["status"] == {"type": "idle"}


@pytest.mark.parametrize(
    "method",
    ["thread/read", "thread/resume", "thread/archive", "thread/unarchive", "turn/interrupt"],
)
async def test_an_unknown_thread_is_named(tmp_path: Path, method: str):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError, match=NOBODY) as raised:
            await client.request(method, {**by_id(NOBODY), "turnId": ""})
        assert raised.value.code == INVALID_REQUEST


@pytest.mark.parametrize(
    "method", ["thread/read", "thread/resume", "thread/archive", "thread/unsubscribe"]
)
async def test_an_id_that_is_none_is_refused(tmp_path: Path, method: str):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError, match=r"^invalid (thread|session) id: ") as raised:
            await client.request(method, by_id("not-a-uuid"))
        assert raised.value.code == INVALID_REQUEST


# ------------------------------------------------------------------ lists


@BOTH
async def test_lists_are_paged_newest_first_and_back(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        ids: list[str] = []
        for number in range(3):
            ids.append(await lab.start_thread(client))
            await lab.run_turn(client, ids[-1], f"task {number}")
        first = await client.call("thread/list", {"limit": 2})
        assert [thread.id for thread in first.data] == [ids[2], ids[1]]
        assert first.data[0].preview == "task 2"
        rest = await client.call("thread/list", {"limit": 2, "cursor": first.next_cursor})
        assert [thread.id for thread in rest.data] == [ids[0]]
        assert rest.next_cursor is None
        oldest = await client.request("thread/list", {"sortDirection": "asc", "limit": 1})
        assert [thread["id"] for thread in oldest["data"]] == [ids[0]]


async def test_lists_are_filtered(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id, "paint the fence")

        async def found(**params: object) -> list[str]:
            data = (await client.request("thread/list", params))["data"]
            return [thread["id"] for thread in data]

        assert await found() == [thread_id]
        assert await found(searchTerm="fence") == [thread_id]
        assert await found(searchTerm="wall") == []
        assert await found(modelProviders=["other"]) == []
        assert await found(modelProviders=[]) == [thread_id]
        assert await found(cwd=str(lab.work)) == [thread_id]
        assert await found(cwd="/elsewhere") == []
        assert await found(archived=True) == []
        assert await found(sourceKinds=["exec"]) == []


async def test_a_cursor_that_is_none_is_refused(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError, match="cursor") as raised:
            await client.request("thread/list", {"cursor": "garbage"})
        assert raised.value.code == INVALID_REQUEST


async def test_loaded_threads_are_paged(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        ids = sorted([await lab.start_thread(client) for _ in range(3)])
        page = await client.request("thread/loaded/list", {"limit": 2})
        assert (page["data"], page["nextCursor"]) == (ids[:2], ids[1])
        rest = await client.request("thread/loaded/list", {"cursor": page["nextCursor"]})
        assert (rest["data"], rest["nextCursor"]) == (ids[2:], None)


# ------------------------------------------------------------------ resuming


async def test_a_resumed_thread_goes_on_where_it_stood(tmp_path: Path):
    """A second process resumes what the first one left behind."""
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect()
        thread_id = await lab.start_thread(first)
        await lab.run_turn(first, thread_id, "first task")
        await first.close()
        second = await lab.connect()
        session = await second.request("thread/resume", by_id(thread_id))
        assert session["thread"]["status"] == {"type": "idle"}
        (earlier,) = session["thread"]["turns"]
        assert earlier["status"] == "completed"
        await lab.run_turn(second, thread_id, "second task")
        texts = json.dumps(lab.provider.requests[-1].body["input"])
        assert texts.index("first task") < texts.index("Done") < texts.index("second task")


async def test_two_clients_of_one_server_hear_the_same_thread(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        first, second = await lab.connect(), await lab.connect()
        thread_id = await lab.start_thread(first)
        await lab.run_turn(first, thread_id)
        await second.settle()
        assert "turn/started" not in second.methods()  # it never asked for the thread
        assert "thread/status/changed" in second.methods()  # told to everybody
        resumed = await second.request("thread/resume", by_id(thread_id))
        assert len(resumed["thread"]["turns"]) == 1
        await second.request("turn/start", turn(thread_id, "again"))
        ended = [(await client.until("turn/completed"))["turn"]["id"] for client in (first, second)]
        assert ended[0] == ended[1]


async def test_turns_can_be_left_out_of_a_resume(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)
        slim = await client.request("thread/resume", {**by_id(thread_id), "excludeTurns": True})
        assert slim["thread"]["turns"] == []


async def test_a_thread_that_stored_nothing_cannot_be_resumed(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        with pytest.raises(RpcError, match="no rollout found for thread id") as raised:
            await client.request("thread/resume", by_id(thread_id))
        assert raised.value.code == INVALID_REQUEST


async def test_a_thread_that_another_process_writes_is_not_taken_over(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first, second = await lab.connect(), await lab.connect()
        thread_id = await lab.start_thread(first)
        await lab.run_turn(first, thread_id)
        with pytest.raises(RpcError) as raised:
            await second.request("thread/resume", by_id(thread_id))
        assert raised.value.code == INVALID_REQUEST
        await lab.run_turn(first, thread_id)  # the owner is not disturbed


async def test_a_path_without_a_log_is_named(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        with pytest.raises(RpcError, match=r"no rollout found .*/a\.jsonl") as raised:
            await client.request("thread/resume", {**by_id(NOBODY), "path": "/a.jsonl"})
        assert raised.value.code == INVALID_REQUEST


# ------------------------------------------------------------------ archiving


@BOTH
async def test_thread_archive_requires_materialized_rollout(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        session = await client.request("thread/start", {"cwd": str(lab.work)})
        thread_id, path = session["thread"]["id"], Path(session["thread"]["path"])
        assert not path.exists()
        with pytest.raises(RpcError, match="no rollout found for thread id") as raised:
            await client.request("thread/archive", by_id(thread_id))
        assert raised.value.code == INVALID_REQUEST

        await lab.run_turn(client, thread_id, "materialize")
        assert path.exists()
        assert await client.request("thread/archive", by_id(thread_id)) == {}
        assert (await client.until("thread/archived"))["threadId"] == thread_id
        assert not path.exists()
        assert (lab.home / "archived_sessions" / path.name).exists()
        assert (await client.request("thread/list", {}))["data"] == []
        archived = await client.request("thread/list", {"archived": True})
        assert [thread["id"] for thread in archived["data"]] == [thread_id]


@BOTH
async def test_thread_archive_clears_stale_subscriptions_before_resume(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        primary = await lab.connect()
        thread_id = await lab.start_thread(primary)
        await lab.run_turn(primary, thread_id, "materialize")
        secondary = await lab.connect()
        await primary.request("thread/archive", by_id(thread_id))
        await primary.until("thread/archived")
        unarchived = await primary.request("thread/unarchive", by_id(thread_id))
        assert unarchived["thread"]["id"] == thread_id
        await primary.until("thread/unarchived")

        resumed = await secondary.request("thread/resume", by_id(thread_id))
        assert resumed["thread"]["status"] == {"type": "idle"}
        primary.heard.clear()
        done = await lab.run_turn(secondary, thread_id, "secondary turn")
        assert done["status"] == "completed"
        assert "turn/started" in secondary.methods()
        await primary.settle()
        assert not [name for name in primary.methods() if name.startswith(("turn/", "item/"))]


async def test_archiving_ends_a_running_turn_first(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(Step([created(), *message("half")[:2]], hang=True))
        await client.request("turn/start", turn(thread_id))
        await client.until("item/agentMessage/delta")
        await client.request("thread/archive", by_id(thread_id))
        assert (await client.until("turn/completed"))["turn"]["status"] == "interrupted"
        await client.until("thread/archived")
        assert (await client.request("thread/loaded/list", {}))["data"] == []


async def test_an_archived_thread_is_read_but_not_resumed(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id, "task")
        await client.request("thread/archive", by_id(thread_id))
        read = (await client.request("thread/read", by_id(thread_id)))["thread"]
        assert (read["preview"], read["status"]) == ("task", {"type": "notLoaded"})
        with pytest.raises(RpcError, match=f"session {thread_id} is archived"):
            await client.request("thread/resume", by_id(thread_id))
        await client.request("thread/unarchive", by_id(thread_id))
        await client.request("thread/resume", by_id(thread_id))


# ------------------------------------------------------------------ unsubscribing


@BOTH
async def test_a_thread_that_nobody_watches_any_more_is_closed(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)
        client.heard.clear()
        answer = await client.request("thread/unsubscribe", by_id(thread_id))
        assert answer == {"status": "unsubscribed"}
        assert (await client.until("thread/closed"))["threadId"] == thread_id
        status = next(e for e in client.heard if e.method == "thread/status/changed")
        assert status.params == {"threadId": thread_id, "status": {"type": "notLoaded"}}
        assert (await client.request("thread/loaded/list", {}))["data"] == []
        again = await client.request("thread/unsubscribe", by_id(thread_id))
        assert again == {"status": "notLoaded"}
        assert (await client.request("thread/read", by_id(thread_id)))["thread"]["id"] == thread_id


async def test_a_thread_with_another_watcher_stays(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        first, second = await lab.connect(), await lab.connect()
        thread_id = await lab.start_thread(first)
        await lab.run_turn(first, thread_id)
        stranger = await second.request("thread/unsubscribe", by_id(thread_id))
        assert stranger == {"status": "notSubscribed"}
        await second.request("thread/resume", by_id(thread_id))
        left = await first.request("thread/unsubscribe", by_id(thread_id))
        assert left == {"status": "unsubscribed"}
        first.heard.clear()
        await lab.run_turn(second, thread_id)
        await first.settle()
        assert "turn/started" not in first.methods()
        assert (await first.request("thread/loaded/list", {}))["data"] == [thread_id]


async def test_a_running_turn_is_finished_before_its_unwatched_thread_closes(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        go = asyncio.Event()
        lab.provider.script(Step([created(), go, *message("late answer"), completed()]))
        await client.request("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        await client.request("thread/unsubscribe", by_id(thread_id))
        await client.settle()
        assert "thread/closed" not in client.methods()
        go.set()
        await client.until("thread/closed")
        stored = await client.request("thread/read", {**by_id(thread_id), "includeTurns": True})
        assert stored["thread"]["turns"][0]["status"] == "completed"


async def test_a_client_that_leaves_gives_up_its_threads(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        leaving, staying = await lab.connect(), await lab.connect()
        thread_id = await lab.start_thread(leaving)
        await lab.run_turn(leaving, thread_id)
        await leaving.close()
        closed = await staying.until("thread/closed")
        assert closed["threadId"] == thread_id
