"""`seq` on notifications, and `thread/events/list`: nothing that a log keeps is ever missed."""

import asyncio
import functools
import random
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, Kind, LabClient, turn
from support.fake_provider import Step, calls, completed, created, function_call, message, reply
from treadle.domain.event_log import STRIDE
from treadle.engine.services.feed import Feed
from treadle.wire.client.client import ConnectionLost
from treadle.wire.protocol.errors import RpcError
from treadle.wire.rpc.peer import Peer

Told = dict[int, tuple[str, Any]]
"""Notifications of one thread by their numbers."""


class Merger:
    """What one client knows of a thread, over any number of connections."""

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        self.told: Told = {}
        self.gaps: list[tuple[int, int]] = []
        self.contiguous = 0
        """All up to here was told, or lies in a gap."""

    def take(self, method: str, params: Any, seq: int | None) -> None:
        if seq is None or params.get("threadId", self.thread_id) != self.thread_id:
            return
        known = self.told.setdefault(seq, (method, params))
        assert known == (method, params), "one number, two events"

    async def catch_up(self, client: LabClient, until: int, limit: int = 7) -> None:
        """Read pages until everything up to `until` is known."""
        after: int | None = self.contiguous
        while after is not None:
            page = await client.request(
                "thread/events/list",
                {"threadId": self.thread_id, "afterSeq": after, "limit": limit},
            )
            assert len(page["data"]) <= limit
            if page["gap"] is not None:
                self.gaps.append((page["gap"]["afterSeq"], page["gap"]["untilSeq"]))
            for entry in page["data"]:
                self.take(entry["method"], entry["params"], entry["seq"])
            assert page["lastSeq"] >= until
            after = page["nextSeq"]
        self.contiguous = max(self.contiguous, until)


def kept(told: Told) -> Told:
    return {seq: what for seq, what in told.items() if seq % STRIDE == 0}


def check_whole(truth: Told, merger: Merger) -> None:
    """All that the log keeps is there and equal; all else is equal, or in a gap that was told."""
    assert kept(merger.told) == kept(truth)
    for seq, what in truth.items():
        if seq in merger.told:
            assert merger.told[seq] == what
        else:
            assert any(after < seq <= until for after, until in merger.gaps), (seq, what[0])
    assert set(merger.told) <= set(truth)


def truth_of(client: LabClient, thread_id: str) -> Told:
    """Everything that a connection which was there all the time heard, from its frames."""
    merger = Merger(thread_id)
    for frame in client.tap.seen:
        if "method" in frame and "id" not in frame:
            merger.take(frame["method"], frame["params"], frame.get("seq"))
    return merger.told


async def events_after(client: LabClient, thread_id: str, after: int = 0) -> Merger:
    merger = Merger(thread_id)
    merger.contiguous = after
    await merger.catch_up(client, after)
    return merger


@pytest.mark.parametrize("kind", ["memory", "stdio"])
async def test_numbers_grow_and_the_log_keeps_the_round_ones(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect(experimental=True)
        session = await client.request("thread/start", {"cwd": str(lab.work)})
        assert session["lastSeq"] == 0
        thread_id = session["thread"]["id"]
        lab.provider.script(calls(function_call("exec_command", {"cmd": "echo hi"})), reply())
        await lab.run_turn(client, thread_id)
        frames = [frame for frame in client.tap.seen if "seq" in frame]
        numbers = [frame["seq"] for frame in frames]
        assert numbers == sorted(set(numbers))
        methods = {f["method"] for f in frames if f["seq"] % STRIDE == 0}
        assert methods == {
            "turn/started",
            "item/completed",
            "thread/tokenUsage/updated",
            "turn/completed",
        }
        assert frames[0]["method"] == "thread/started"
        read = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
        assert read["lastSeq"] == numbers[-1]
        again = await events_after(client, thread_id)
        check_whole(truth_of(client, thread_id), again)


async def test_another_server_tells_the_same_kept_events(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        first = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(first)
        lab.provider.script(calls(function_call("exec_command", {"cmd": "echo hi"})), reply())
        await lab.run_turn(first, thread_id)
        lab.provider.script(Step(status=400, body="{}"))
        assert (await lab.run_turn(first, thread_id))["status"] == "failed"
        truth = kept(truth_of(first, thread_id))
        lab.kill()
        with pytest.raises(ConnectionLost):
            await first.until("never")
        second = await lab.connect(experimental=True)
        unloaded = await events_after(second, thread_id)
        assert kept(unloaded.told) == unloaded.told == truth
        assert unloaded.gaps[0] == (0, max(truth))
        read = await second.request("thread/read", {"threadId": thread_id, "includeTurns": True})
        assert read["lastSeq"] == max(truth)
        session = await second.request("thread/resume", {"threadId": thread_id})
        assert session["lastSeq"] > max(truth)
        await lab.run_turn(second, thread_id)
        merger = Merger(thread_id)
        await merger.catch_up(second, session["lastSeq"])
        assert {seq: merger.told[seq] for seq in truth} == truth
        check_whole(truth | truth_of(second, thread_id), merger)


async def test_one_who_joins_a_running_turn_reads_the_deltas_it_missed(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        first, late = await lab.connect(), await lab.connect(experimental=True)
        thread_id = await lab.start_thread(first)
        go = asyncio.Event()
        events = message("Hello world", deltas=["Hel", "lo ", "world"])
        lab.provider.script(Step([created(), *events[:3], go, *events[3:], completed()]))
        await first.request("turn/start", turn(thread_id))
        await first.until("item/agentMessage/delta", lambda p: p["delta"] == "lo ")
        session = await late.request("thread/resume", {"threadId": thread_id})
        live = await events_after(late, thread_id)
        go.set()
        await late.until("turn/completed")
        await late.settle()
        for event in late.heard:
            live.take(event.method, event.params, event.seq)
        deltas = [p["delta"] for _, (m, p) in sorted(live.told.items()) if m.endswith("/delta")]
        assert deltas == ["Hel", "lo ", "world"]
        assert live.gaps == []
        check_whole(truth_of(first, thread_id), live)
        answered = next(n for n, f in enumerate(late.tap.seen) if "thread" in f.get("result", ()))
        mine = [f["params"] for f in late.tap.seen[:answered] if f.get("method", "")[:5] == "item/"]
        assert mine == [], "a thread's own news come after the answer that begins it"
        assert session["thread"]["turns"][0]["status"] == "inProgress"


async def test_the_merged_log_equals_the_servers_whatever_connections_do(tmp_path: Path):
    """Clients come, read a little, vanish and come back; each ends up with the whole."""
    dice = random.Random(7)
    async with AppLab(tmp_path, "memory") as lab:
        witness = await lab.connect()
        thread_id = await lab.start_thread(witness)
        words = [f"w{n} " for n in range(40)]
        lab.provider.default = Step(
            [created(), *message("".join(words), deltas=words), completed()]
        )
        await lab.run_turn(witness, thread_id)
        mergers = [Merger(thread_id) for _ in range(3)]
        over = asyncio.Event()
        visits: list[tuple[int, set[int]]] = []
        """Per connection: where its picture of the thread ends, and what it heard live."""

        async def hop(merger: Merger) -> None:
            while not over.is_set():
                client = await lab.connect(experimental=True)
                answer = await client.request(
                    "thread/resume", {"threadId": thread_id, "excludeTurns": True}
                )
                await merger.catch_up(client, answer["lastSeq"], limit=100)
                for _ in range(dice.randrange(40)):
                    event = await client.next_event()
                    merger.take(event.method, event.params, event.seq)
                    if over.is_set():
                        break
                visits.append((answer["lastSeq"], set(truth_of(client, thread_id))))
                await client.close()

        async with asyncio.TaskGroup() as group:
            for merger in mergers:
                group.create_task(hop(merger))
            async with asyncio.timeout(20):
                while len(visits) < 15:
                    await lab.run_turn(witness, thread_id)
            over.set()
            await lab.run_turn(witness, thread_id)  # wakes who waits for an event
        await witness.settle()
        truth = truth_of(witness, thread_id)
        last = await lab.connect(experimental=True)
        for merger in mergers:
            await merger.catch_up(last, max(truth))
            check_whole(truth, merger)
        for begin, heard in visits:
            behind = {seq for seq in truth if begin < seq <= max(heard, default=0)}
            assert behind <= heard, "a hole between the answer and the first news"


async def test_a_slow_reader_is_told_and_reads_what_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "treadle.appserver.app.Peer", functools.partial(Peer, room_bytes=512, drop_bytes=1024)
    )
    monkeypatch.setattr("treadle.cli.wiring.engine.Feed", lambda: Feed(patience_seconds=0.0))
    async with AppLab(tmp_path, "memory") as lab:
        witness = await lab.connect()
        slow = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(witness)
        await lab.run_turn(witness, thread_id)
        answer = await slow.request("thread/resume", {"threadId": thread_id})
        words = [f"word {n} " for n in range(400)]
        go = asyncio.Event()
        events = message("".join(words), deltas=words)
        lab.provider.script(Step([created(), *events, go, completed()]))
        await witness.request("turn/start", turn(thread_id))
        await witness.until("item/completed", lambda p: p["item"]["type"] == "agentMessage")
        go.set()
        await slow.until("turn/completed")
        await slow.settle()
        merger = Merger(thread_id)
        for event in slow.heard:
            merger.take(event.method, event.params, event.seq)
        lag = [e.params for e in slow.heard if e.method == "warning"]
        assert lag, "the reader kept up"
        merger.contiguous = answer["lastSeq"]
        await merger.catch_up(slow, answer["lastSeq"])
        truth = {s: w for s, w in truth_of(witness, thread_id).items() if s > answer["lastSeq"]}
        assert kept({s: w for s, w in merger.told.items() if s in truth}) == kept(truth)
        missing = set(truth) - set(merger.told)
        assert bool(missing) <= bool(merger.gaps)
        assert sum(params["skipped"] for params in lag) >= len(missing)


async def test_turns_taken_back_do_not_turn_the_numbers_back(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client)
        for text in ("one", "two", "three"):
            await lab.run_turn(client, thread_id, text)
        read = await client.request("thread/read", {"threadId": thread_id})
        await client.request("thread/rollback", {"threadId": thread_id, "numTurns": 2})
        await lab.run_turn(client, thread_id, "four")
        mine = await events_after(client, thread_id, read["lastSeq"])
        assert kept(mine.told)[min(kept(mine.told))][0] == "turn/started"
        again = await lab.connect(experimental=True)
        theirs = await events_after(again, thread_id, read["lastSeq"])
        assert kept(theirs.told) == kept(mine.told)
        whole = await events_after(again, thread_id)
        said = [
            params["item"]["content"][0]["text"]
            for _, (method, params) in sorted(whole.told.items())
            if method == "item/completed" and params["item"]["type"] == "userMessage"
        ]
        assert said == ["one", "four"]


async def test_a_fork_has_the_events_it_builds_on(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)
        source = await events_after(client, thread_id)
        forked = await client.request("thread/fork", {"threadId": thread_id})
        fork_id = forked["thread"]["id"]
        events = await events_after(client, fork_id)
        assert list(kept(events.told)) == list(kept(source.told))
        assert {p["threadId"] for _, p in kept(events.told).values()} == {fork_id}
        assert forked["lastSeq"] >= max(kept(source.told))


async def test_numbers_that_were_never_given_are_told_apart(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)
        await client.settle()
        ask = {"threadId": thread_id, "afterSeq": 900 * STRIDE}
        page = await client.request("thread/events/list", ask)
        assert page["data"] == []
        assert page["gap"] == {"afterSeq": 900 * STRIDE, "untilSeq": page["lastSeq"]}


async def test_an_ephemeral_thread_is_told_again_while_it_lives(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client, ephemeral=True)
        fresh = await client.request("thread/events/list", {"threadId": thread_id})
        assert [entry["method"] for entry in fresh["data"]] == ["thread/started"]
        await lab.run_turn(client, thread_id)
        await client.settle()
        check_whole(truth_of(client, thread_id), await events_after(client, thread_id))


async def test_events_of_nobody_are_refused(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        nobody = "01a228d8-e9a9-7000-9f98-d0382abd6f5e"
        with pytest.raises(RpcError, match=f"thread not loaded: {nobody}"):
            await client.request("thread/events/list", {"threadId": nobody})
        plain = await lab.connect()
        with pytest.raises(RpcError, match="requires experimentalApi"):
            await plain.request("thread/events/list", {"threadId": nobody})


async def test_who_hears_a_thread_and_resumes_it_is_told_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)
        gate = asyncio.Event()
        lab.provider.script(Step([created(), gate, *message("Hi"), completed()]))
        await client.request("turn/start", turn(thread_id))
        threads = lab.engine.services.threads
        read = threads.turns

        async def read_while_the_turn_ends(*args: Any) -> Any:
            gate.set()
            await client.until("turn/completed")
            return await read(*args)

        monkeypatch.setattr(threads, "turns", read_while_the_turn_ends)
        await client.request("thread/resume", {"threadId": thread_id})
        await client.settle()
        numbers = [m["seq"] for m in client.tap.seen if "seq" in m]
        assert numbers == sorted(set(numbers))
