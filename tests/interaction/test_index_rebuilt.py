"""Deleting every index changes nothing that a client sees."""

import asyncio
from pathlib import Path
from typing import Any

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, created


async def everything(client: LabClient) -> dict[str, Any]:
    """What a client can see of all threads: lists in each order, and each thread with its past."""
    seen: dict[str, Any] = {}
    ids: list[str] = []
    for archived in (False, True):
        for key in ("created_at", "updated_at", "recency_at"):
            params: dict[str, Any] = {"sortKey": key, "archived": archived, "sourceKinds": []}
            page = await client.request("thread/list", params)
            seen[f"{key} {archived}"] = page
            ids += [thread["id"] for thread in page["data"]]
    for thread_id in dict.fromkeys(ids):
        params = {"threadId": thread_id, "includeTurns": True}
        seen[thread_id] = await client.request("thread/read", params)
        for method in ("thread/turns/list", "thread/items/list", "thread/goal/get"):
            seen[f"{thread_id} {method}"] = await client.request(method, {"threadId": thread_id})
    seen["search"] = await client.request("thread/search", {"searchTerm": "first"})
    return seen


async def lively(lab: AppLab, client: LabClient) -> None:
    """Threads with everything that is kept of one."""
    marked = await lab.start_thread(client)
    await lab.run_turn(client, marked, "  first words ")
    params = {**turn(marked, "more"), "model": "other-model", "effort": "high"}
    await client.request("turn/start", params)
    await client.until("turn/completed")
    fork = await client.request("thread/fork", {"threadId": marked})
    turns = await client.request("thread/turns/list", {"threadId": marked, "sortDirection": "asc"})
    first = turns["data"][0]["id"]
    await client.request("thread/fork", {"threadId": marked, "beforeTurnId": first})
    await lab.run_turn(client, fork["thread"]["id"], "in the fork")
    git = {"branch": "renamed", "sha": "b" * 40, "originUrl": None}
    await client.request("thread/metadata/update", {"threadId": marked, "gitInfo": git})
    await client.request("thread/name/set", {"threadId": marked, "name": "a name"})
    await client.request("thread/memoryMode/set", {"threadId": marked, "mode": "disabled"})
    gone = await lab.start_thread(client)
    await lab.run_turn(client, gone, "to the archive")
    await client.request("thread/archive", {"threadId": gone})
    late = {"branch": "late", "sha": None, "originUrl": "https://example.org/r"}
    await client.request("thread/metadata/update", {"threadId": gone, "gitInfo": late})
    cut = await lab.start_thread(client)
    lab.provider.script(Step([created(), asyncio.Event()]))
    await client.request("turn/start", turn(cut, "first of a turn that is cut short"))
    await client.until("turn/started", lambda p: p["threadId"] == cut)


async def test_deleting_all_indexes_changes_nothing_that_a_client_sees(tmp_path: Path) -> None:
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect(experimental=True)
        await lively(lab, client)
        await client.close()
        other = await lab.connect(experimental=True)
        before = await everything(other)
        assert len(before["created_at False"]["data"]) == 4
        marked = next(t for t in before["created_at False"]["data"] if t["name"] == "a name")
        assert (marked["model"], marked["reasoningEffort"]) == ("other-model", "high")
        assert marked["gitInfo"]["branch"] == "renamed"
        await other.close()
        indexes = list(lab.home.glob("*.sqlite*"))
        assert indexes
        for index in indexes:
            index.unlink()
        assert await everything(await lab.connect(experimental=True)) == before
