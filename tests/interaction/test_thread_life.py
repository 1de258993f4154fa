"""Forks, deletion, names, turns taken back, history pages, search and goals over the protocol."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, completed, created, message, reply
from treadle.wire.protocol.errors import RpcError

NOBODY = "00000000-0000-7000-8000-000000000000"


async def a_thread(lab: AppLab, client: LabClient, *words: str, **params: Any) -> str:
    """A thread with one turn per word; its id."""
    thread_id = await lab.start_thread(client, **params)
    for word in words:
        await lab.run_turn(client, thread_id, word)
    return thread_id


async def asked(client: LabClient, thread_id: str) -> list[str]:
    """What the user said in each stored turn."""
    found = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
    return [talk(turn)[0] for turn in found["thread"]["turns"]]


def talk(turn: dict[str, Any]) -> list[str]:
    """What was said in a turn."""
    said: list[str] = []
    for item in turn["items"]:
        if item["type"] == "userMessage":
            said.append("".join(part["text"] for part in item["content"]))
        elif item["type"] == "agentMessage":
            said.append(item["text"])
    return said


def heard(lab: AppLab, *wanted: str) -> list[str]:
    """Those of the words that the last request carried to the model, in order."""
    return [
        part["text"]
        for item in lab.provider.requests[-1].body["input"]
        if item["type"] == "message"
        for part in item["content"]
        if part.get("text") in wanted
    ]


def held(*before: Any) -> tuple[Step, asyncio.Event]:
    """An answer that waits before its end, and what lets it go on."""
    gate = asyncio.Event()
    return Step([created(), *before, gate, completed()]), gate


# ------------------------------------------------------------------ forks


async def test_a_fork_and_its_source_go_separate_ways(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        source = await a_thread(lab, client, "shared")
        answer = await client.request("thread/fork", {"threadId": source})
        fork = answer["thread"]
        assert (fork["forkedFromId"], fork["preview"]) == (source, "shared")
        assert [talk(each) for each in fork["turns"]] == [["shared", "Done"]]
        told = await client.until("thread/started", lambda p: p["thread"]["id"] == fork["id"])
        assert told["thread"]["turns"] == []
        await client.until("thread/tokenUsage/updated", lambda p: p["threadId"] == fork["id"])
        await lab.run_turn(client, fork["id"], "fork alone")
        await lab.run_turn(client, source, "source alone")
        assert heard(lab, "shared", "fork alone", "source alone") == ["shared", "source alone"]
        assert await asked(client, fork["id"]) == ["shared", "fork alone"]


async def test_a_fork_stands_alone_when_its_source_is_deleted(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        source = await a_thread(lab, client, "shared")
        fork = (await client.request("thread/fork", {"threadId": source}))["thread"]["id"]
        await client.request("thread/delete", {"threadId": source})
        assert await asked(client, fork) == ["shared"]
        await lab.run_turn(client, fork, "go on")
        assert heard(lab, "shared", "go on") == ["shared", "go on"]


async def test_a_fork_stops_at_the_named_turn(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        source = await lab.start_thread(client)
        one, two = [(await lab.run_turn(client, source, word))["id"] for word in ("one", "two")]
        for boundary, left in (
            ({"lastTurnId": one}, ["one"]),
            ({"beforeTurnId": two}, ["one"]),
            ({"beforeTurnId": one}, []),
            ({"lastTurnId": two}, ["one", "two"]),
        ):
            answer = await client.request("thread/fork", {"threadId": source, **boundary})
            assert [talk(each)[0] for each in answer["thread"]["turns"]] == left
        for boundary, text in (
            ({"lastTurnId": "nope"}, "turn not found: nope"),
            ({"lastTurnId": one, "beforeTurnId": two}, "cannot be combined"),
        ):
            with pytest.raises(RpcError, match=text):
                await client.request("thread/fork", {"threadId": source, **boundary})


async def test_a_fork_of_a_running_turn_keeps_what_was_said_so_far(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        source = await a_thread(lab, client)
        step, gate = held(*message("so far"))
        lab.provider.script(step)
        await client.request("turn/start", turn(source, "slow"))
        await client.until("item/completed", lambda p: p["item"]["type"] == "agentMessage")
        answer = await client.request("thread/fork", {"threadId": source})
        fork, turns = answer["thread"]["id"], answer["thread"]["turns"]
        assert [(talk(each), each["status"]) for each in turns] == [
            (["slow", "so far"], "interrupted")
        ]
        gate.set()
        done = await client.until("turn/completed")
        assert (done["threadId"], done["turn"]["status"]) == (source, "completed")
        await lab.run_turn(client, fork, "next")
        assert heard(lab, "slow", "so far", "next") == ["slow", "so far", "next"]


async def test_an_ephemeral_fork_knows_its_source_and_leaves_no_file(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        source = await a_thread(lab, client, "shared")
        files = sorted(lab.home.rglob("*.jsonl"))
        with pytest.raises(RpcError, match="requires `excludeTurns: true`"):
            await client.request("thread/fork", {"threadId": source, "ephemeral": True})
        answer = await client.request(
            "thread/fork", {"threadId": source, "ephemeral": True, "excludeTurns": True}
        )
        fork = answer["thread"]
        assert (fork["ephemeral"], fork["path"], fork["turns"]) == (True, None, [])
        await lab.run_turn(client, fork["id"], "aside")
        assert heard(lab, "shared", "aside") == ["shared", "aside"]
        assert sorted(lab.home.rglob("*.jsonl")) == files


async def test_a_thread_with_nothing_stored_cannot_be_forked(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        for thread_id in (await a_thread(lab, client), NOBODY):
            with pytest.raises(RpcError, match=f"no rollout found for thread id {thread_id}"):
                await client.request("thread/fork", {"threadId": thread_id})


# ------------------------------------------------------------------ resume by other means


async def test_a_log_elsewhere_is_resumed_by_its_path_and_grows_there(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await a_thread(lab, client, "first")
        found = await client.request("thread/read", {"threadId": thread_id})
        await client.request("thread/unsubscribe", {"threadId": thread_id})
        await client.until("thread/closed")
        moved = tmp_path / "elsewhere.jsonl"
        Path(found["thread"]["path"]).rename(moved)
        answer = await client.request("thread/resume", {"threadId": "any", "path": str(moved)})
        assert (answer["thread"]["id"], answer["thread"]["path"]) == (thread_id, str(moved))
        size = moved.stat().st_size
        await lab.run_turn(client, thread_id, "second")
        assert moved.stat().st_size > size
        assert (await client.request("thread/list", {}))["data"] == []


async def test_history_of_a_client_makes_a_thread_of_its_own(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        history = [
            {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
            for role, kind, text in (
                ("user", "input_text", "from history"),
                ("assistant", "output_text", "ok then"),
            )
        ]
        params = {"threadId": NOBODY, "history": history}
        thread = (await client.request("thread/resume", params))["thread"]
        assert thread["id"] != NOBODY
        assert (thread["preview"], thread["turns"]) == ("from history", [])
        await lab.run_turn(client, thread["id"], "next")
        said = ["from history", "ok then", "next"]
        assert heard(lab, *said) == said
        for wrong, text in (
            ([], "history must not be empty"),
            ([{"x": 1}], "missing field `type`"),
        ):
            with pytest.raises(RpcError, match=text):
                await client.request("thread/resume", {"threadId": NOBODY, "history": wrong})


async def test_base_instructions_of_a_thread_outlive_the_server(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect()
        thread_id = await a_thread(lab, first, "one", baseInstructions="BE BRIEF")
        lab.kill()
        second = await lab.connect()
        answer = await second.request("thread/resume", {"threadId": thread_id, "model": "other"})
        assert answer["model"] == "other"
        warned = await second.until("warning")
        assert "`mock-model`" in warned["message"]
        await lab.run_turn(second, thread_id, "two")
        assert "BE BRIEF" in json.dumps(lab.provider.requests[-1].body)


# ------------------------------------------------------------------ delete, and families


async def test_a_deleted_thread_leaves_no_trace(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await a_thread(lab, client, "words")
        await client.request("thread/name/set", {"threadId": thread_id, "name": "Mine"})
        assert await client.request("thread/delete", {"threadId": thread_id}) == {}
        assert (await client.until("thread/deleted"))["threadId"] == thread_id
        left = [path for path in lab.home.rglob("*.jsonl") if thread_id in path.read_text()]
        assert left == []
        assert (await client.request("thread/loaded/list", {}))["data"] == []
        for method in ("thread/resume", "thread/delete", "thread/archive"):
            with pytest.raises(RpcError, match="no rollout found for thread id"):
                await client.request(method, {"threadId": thread_id})


async def test_deleting_a_running_thread_ends_its_turn(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await a_thread(lab, client)
        lab.provider.script(Step([created()], hang=True))
        await client.request("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        await client.request("thread/delete", {"threadId": thread_id})
        assert (await client.until("turn/completed"))["turn"]["status"] == "interrupted"
        await client.until("thread/deleted")


async def a_family(lab: AppLab, client: LabClient) -> list[str]:
    """Ids of a stored parent, child and grandchild."""
    ids = [await a_thread(lab, client, word) for word in ("parent", "child", "grandchild")]
    store = lab.engine.services.threads.store
    await store.link(ids[0], ids[1])
    await store.link(ids[1], ids[2])
    return ids


async def test_thread_archive_archives_spawned_descendants(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        parent, child, grandchild = await a_family(lab, client)
        await client.request("thread/archive", {"threadId": parent})
        told = [(await client.until("thread/archived"))["threadId"] for _ in range(3)]
        assert told == [parent, grandchild, child]
        assert list((lab.home / "sessions").rglob("*.jsonl")) == []
        for thread_id in (parent, child, grandchild):
            assert list((lab.home / "archived_sessions").glob(f"rollout-*-{thread_id}.jsonl"))
        await client.request("thread/unarchive", {"threadId": parent})
        told = [(await client.until("thread/unarchived"))["threadId"] for _ in range(3)]
        assert told == [parent, grandchild, child]


async def test_thread_archive_succeeds_when_descendant_archive_fails(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        parent, child, grandchild = await a_family(lab, client)
        found = await client.request("thread/read", {"threadId": child})
        path = Path(found["thread"]["path"])
        (lab.home / "archived_sessions" / path.name).mkdir(parents=True)
        await client.request("thread/archive", {"threadId": parent})
        await client.settle()
        told = [e.params["threadId"] for e in client.heard if e.method == "thread/archived"]
        assert told == [parent, grandchild]
        archive = lab.home / "archived_sessions"
        assert path.exists()
        assert (archive / path.name).is_dir()
        for thread_id in (parent, grandchild):
            assert list((lab.home / "sessions").rglob(f"*{thread_id}*")) == []
            assert list(archive.glob(f"rollout-*-{thread_id}.jsonl"))


async def test_thread_archive_succeeds_when_spawned_descendant_is_missing(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        parent = await a_thread(lab, client, "parent")
        await lab.engine.services.threads.store.link(parent, NOBODY)
        await client.request("thread/archive", {"threadId": parent})
        await client.settle()
        told = [e.params["threadId"] for e in client.heard if e.method == "thread/archived"]
        assert told == [parent]
        assert list((lab.home / "sessions").rglob(f"*{parent}*")) == []
        assert list((lab.home / "archived_sessions").glob(f"rollout-*-{parent}.jsonl"))


async def test_a_family_is_deleted_deepest_first(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        parent, child, grandchild = await a_family(lab, client)
        await client.request("thread/delete", {"threadId": parent})
        told = [(await client.until("thread/deleted"))["threadId"] for _ in range(3)]
        assert told == [grandchild, child, parent]
        assert list((lab.home / "sessions").rglob("*.jsonl")) == []


# ------------------------------------------------------------------ names and marks


async def test_a_name_is_trimmed_told_and_kept(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect()
        thread_id = await a_thread(lab, first, "words")
        named = {"threadId": thread_id, "name": "  Mine "}
        assert await first.request("thread/name/set", named) == {}
        assert await first.until("thread/name/updated") == {
            "threadId": thread_id,
            "threadName": "Mine",
        }
        with pytest.raises(RpcError, match="thread name must not be empty"):
            await first.request("thread/name/set", {"threadId": thread_id, "name": " "})
        lab.kill()
        second = await lab.connect()
        found = await second.request("thread/list", {})
        assert [each["name"] for each in found["data"]] == ["Mine"]


async def test_the_commit_that_a_thread_began_at_is_in_its_log(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        heads = lab.work / ".git" / "refs" / "heads"
        heads.mkdir(parents=True)
        (lab.work / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        (heads / "main").write_text("a" * 40 + "\n")
        client = await lab.connect()
        thread_id = await a_thread(lab, client, "words")
        other = await lab.connect()
        read = await other.request("thread/read", {"threadId": thread_id})
        git = {"sha": "a" * 40, "branch": "main", "originUrl": None}
        assert read["thread"]["gitInfo"] == git
        params = {"threadId": thread_id, "gitInfo": {"branch": "renamed"}}
        answer = await client.request("thread/metadata/update", params)
        assert answer["thread"]["gitInfo"] == {**git, "branch": "renamed"}


async def test_git_facts_change_one_by_one(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await a_thread(lab, client, "words")
        for change, git in (
            ({"branch": "b", "sha": "s"}, {"branch": "b", "sha": "s", "originUrl": None}),
            ({"branch": None}, {"branch": None, "sha": "s", "originUrl": None}),
        ):
            params = {"threadId": thread_id, "gitInfo": change}
            answer = await client.request("thread/metadata/update", params)
            assert answer["thread"]["gitInfo"] == git
        for params, text in (
            ({}, "thread metadata update must include at least one field"),
            ({"gitInfo": {}}, "gitInfo must include at least one field"),
            ({"gitInfo": {"branch": " "}}, "gitInfo.branch must not be empty"),
        ):
            with pytest.raises(RpcError, match=text):
                await client.request("thread/metadata/update", {"threadId": thread_id, **params})


async def test_changed_settings_are_told_once_and_sealed(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect(experimental=True)
        thread_id = await a_thread(lab, first, "words")
        change = {"threadId": thread_id, "approvalPolicy": "on-request", "model": "other"}
        for _ in range(2):
            assert await first.request("thread/settings/update", change) == {}
        await first.settle()
        assert first.methods().count("thread/settings/updated") == 1
        lab.kill()
        second = await lab.connect()
        answer = await second.request("thread/resume", {"threadId": thread_id})
        assert (answer["model"], answer["approvalPolicy"]) == ("other", "on-request")


# ------------------------------------------------------------------ taking back, putting in


@pytest.mark.parametrize("kind", ["memory", "stdio"])
async def test_turns_taken_back_are_forgotten_by_everybody(tmp_path: Path, kind: Any):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        for word in ("one", "two", "three", "four"):
            await lab.run_turn(client, thread_id, word)
        answer = await client.request("thread/rollback", {"threadId": thread_id, "numTurns": 1})
        turns = answer["thread"]["turns"]
        assert [talk(each)[0] for each in turns] == ["one", "two", "three"]
        params = {"threadId": thread_id, "beforeTurnId": turns[1]["id"]}
        reverted = await client.request("thread/revert", params)
        assert (reverted["thread"]["turns"], reverted["thread"]["preview"]) == ([], "one")
        assert await client.until("thread/reverted") == {"threadId": thread_id}
        await lab.run_turn(client, thread_id, "five")
        said = ["one", "two", "three", "four", "five"]
        assert heard(lab, *said) == ["one", "five"]
        if kind == "stdio":
            lab.kill()
            client = await lab.connect()
            await client.request("thread/resume", {"threadId": thread_id})
            await lab.run_turn(client, thread_id, "six")
            assert heard(lab, *said, "six") == ["one", "five", "six"]
        assert (await asked(client, thread_id))[:2] == ["one", "five"]


async def test_a_running_turn_is_reverted_but_not_rolled_back(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await a_thread(lab, client, "one")
        lab.provider.script(Step([created()], hang=True))
        started = await client.request("turn/start", turn(thread_id, "two"))
        await lab.provider.wait_requests(2)
        with pytest.raises(RpcError, match="Cannot rollback while a turn is in progress"):
            await client.request("thread/rollback", {"threadId": thread_id, "numTurns": 1})
        params = {"threadId": thread_id, "beforeTurnId": started["turn"]["id"]}
        await client.request("thread/revert", params)
        assert await asked(client, thread_id) == ["one"]
        with pytest.raises(RpcError, match="turn not found"):
            await client.request("thread/revert", params)


async def test_injected_items_reach_the_model_and_nobody_else(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await a_thread(lab, client)
        content = [{"type": "output_text", "text": "slipped in"}]
        items = [{"type": "message", "role": "assistant", "content": content}]
        await client.request("thread/inject_items", {"threadId": thread_id, "items": items})
        await lab.run_turn(client, thread_id, "first")
        assert heard(lab, "slipped in", "first") == ["slipped in", "first"]
        assert await asked(client, thread_id) == ["first"]
        for wrong, text in (
            ([], "items must not be empty"),
            (["x"], r"items\[0\] is not a valid response item"),
            ([*items, {"type": "message"}], r"items\[1\] is not a valid response item"),
        ):
            with pytest.raises(RpcError, match=text):
                await client.request("thread/inject_items", {"threadId": thread_id, "items": wrong})


# ------------------------------------------------------------------ history pages and search


async def test_turns_and_items_are_paged_back_and_forth(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await a_thread(lab, client, "one", "two", "three")

        async def page(method: str, **params: Any) -> Any:
            return await client.request(method, {"threadId": thread_id, **params})

        newest = await page("thread/turns/list", limit=2)
        assert [talk(each)[0] for each in newest["data"]] == ["three", "two"]
        oldest = await page("thread/turns/list", limit=2, cursor=newest["nextCursor"])
        assert [talk(each)[0] for each in oldest["data"]] == ["one"]
        assert oldest["nextCursor"] is None
        back = await page(
            "thread/turns/list", cursor=oldest["backwardsCursor"], sortDirection="asc"
        )
        assert [talk(each)[0] for each in back["data"]] == ["one", "two", "three"]
        bare = await page("thread/turns/list", limit=1, itemsView="notLoaded")
        assert (bare["data"][0]["items"], bare["data"][0]["itemsView"]) == ([], "notLoaded")
        items = (await page("thread/items/list"))["data"]
        assert [entry["item"]["type"] for entry in items] == ["userMessage", "agentMessage"] * 3
        last = {"type": "item", "itemId": items[4]["item"]["id"]}
        assert (await page("thread/items/list", cursor=last))["data"] == items[4:]
        read = await page(
            "thread/items/read", turnId=items[0]["turnId"], itemIds=[items[1]["item"]["id"]]
        )
        assert read["data"] == [items[1]]
        for method in ("thread/turns/list", "thread/items/list"):
            with pytest.raises(RpcError, match="invalid cursor: garbage"):
                await page(method, cursor="garbage")


async def test_items_tell_when_they_began_and_ended_for_ever(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client)
        await client.request("turn/start", turn(thread_id))

        def of_the_agent(params: Any) -> bool:
            return params["item"]["type"] == "agentMessage"

        began = await client.until("item/started", of_the_agent)
        ended = await client.until("item/completed", of_the_agent)
        first, last = began["startedAtMs"], ended["completedAtMs"]
        assert began["item"]["startedAtMs"] == ended["item"]["startedAtMs"] == first
        assert "completedAtMs" not in began["item"]
        assert ended["item"]["completedAtMs"] == last >= first
        await client.until("turn/completed")
        entries = (await client.request("thread/items/list", {"threadId": thread_id}))["data"]
        assert (entries[1]["startedAtMs"], entries[1]["completedAtMs"]) == (first, last)
        await client.request("thread/unsubscribe", {"threadId": thread_id})
        await client.until("thread/closed")
        again = await client.request("thread/resume", {"threadId": thread_id})
        [told] = again["thread"]["turns"]
        assert told["items"] == [entry["item"] for entry in entries]
        assert told["items"][1]["completedAtMs"] == last


async def test_a_resume_brings_a_first_page_and_cursors(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await a_thread(lab, client, "one", "two")
        answer = await client.request(
            "thread/resume",
            {"threadId": thread_id, "excludeTurns": True, "initialTurnsPage": {"limit": 1}},
        )
        assert answer["thread"]["turns"] == []
        assert answer["collaborationMode"]["mode"] == "default"
        assert [talk(each)[0] for each in answer["initialTurnsPage"]["data"]] == ["two"]
        cursor = answer["turnsBackwardsCursor"]
        page = await client.request("thread/turns/list", {"threadId": thread_id, "cursor": cursor})
        assert [talk(each)[0] for each in page["data"]] == ["two", "one"]


async def test_words_are_found_in_threads_and_at_their_places(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        lab.provider.script(reply("nothing"), reply("a 🦓 Zebra, another zebra"))
        other = await a_thread(lab, client, "plain")
        thread_id = await a_thread(lab, client, "ask")
        found = await client.request("thread/search", {"searchTerm": "ZEBRA"})
        assert [(hit["thread"]["id"], hit["snippet"]) for hit in found["data"]] == [
            (thread_id, "a 🦓 Zebra, another zebra")
        ]
        assert other not in json.dumps(found)
        places = await client.request(
            "thread/searchOccurrences", {"threadId": thread_id, "searchTerm": "zebra"}
        )
        ranges = [place["snippetMatchRange"] for place in places["data"]]
        assert ranges == [{"start": 5, "end": 10}, {"start": 20, "end": 25}], "in UTF-16 units"
        cursor = places["data"][0]["turnCursor"]
        page = await client.request(
            "thread/turns/list", {"threadId": thread_id, "cursor": cursor, "limit": 1}
        )
        assert page["data"][0]["id"] == places["data"][0]["turnId"]
        for method in ("thread/search", "thread/searchOccurrences"):
            with pytest.raises(RpcError, match="non-empty searchTerm"):
                await client.request(method, {"threadId": thread_id, "searchTerm": ""})


# ------------------------------------------------------------------ goals


async def test_a_goal_outlives_the_server_and_is_told_to_who_resumes(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect()
        thread_id = await a_thread(lab, first, "words")
        goal = {"threadId": thread_id, "objective": "keep me", "status": "paused"}
        answer = await first.request("thread/goal/set", {**goal, "tokenBudget": 5})
        assert (answer["goal"]["objective"], answer["goal"]["tokenBudget"]) == ("keep me", 5)
        assert (await first.until("thread/goal/updated"))["goal"] == answer["goal"]
        lab.kill()
        second = await lab.connect()
        found = await second.request("thread/goal/get", {"threadId": thread_id})
        assert found["goal"] == answer["goal"]
        await second.request("thread/resume", {"threadId": thread_id})
        assert (await second.until("thread/goal/updated"))["goal"] == answer["goal"]
        cleared = await second.request("thread/goal/clear", {"threadId": thread_id})
        assert cleared == {"cleared": True}
        found = await second.request("thread/goal/get", {"threadId": thread_id})
        assert found == {"goal": None}


async def test_a_goal_outlives_turns_taken_back(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await a_thread(lab, client, "one", "two")
        goal = {"threadId": thread_id, "objective": "stay", "status": "paused"}
        await client.request("thread/goal/set", goal)
        await client.request("thread/rollback", {"threadId": thread_id, "numTurns": 2})
        found = await client.request("thread/goal/get", {"threadId": thread_id})
        assert found["goal"]["objective"] == "stay"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"status": "paused"}, "no goal exists"),
        ({"objective": " "}, "goal objective must not be empty"),
        ({"objective": "x" * 4001}, "at most 4000 characters"),
        ({"objective": "x", "tokenBudget": 0}, "must be positive"),
        ({"objective": "x", "status": "weird"}, "weird"),
    ],
)
async def test_a_senseless_goal_is_refused(tmp_path: Path, params: dict[str, Any], text: str):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        with pytest.raises(RpcError, match=text):
            await client.request("thread/goal/set", {"threadId": thread_id, **params})


async def test_marks_of_a_thread_take_known_values_only(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client)
        mode = {"threadId": thread_id, "mode": "disabled"}
        assert await client.request("thread/memoryMode/set", mode) == {}
        with pytest.raises(RpcError, match="maybe"):
            await client.request("thread/memoryMode/set", {**mode, "mode": "maybe"})
        which = {"threadId": thread_id}
        counted = await client.request("thread/increment_elicitation", which)
        assert counted == {"count": 1, "paused": True}
        counted = await client.request("thread/decrement_elicitation", which)
        assert counted == {"count": 0, "paused": False}
        with pytest.raises(RpcError, match="already zero"):
            await client.request("thread/decrement_elicitation", which)
