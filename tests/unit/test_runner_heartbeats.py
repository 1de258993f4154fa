"""Leases of one registration are renewed together, and each meets its own fate."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from treadle.kit.clock import SystemClock
from treadle.kit.tasks import TaskScope
from treadle.runner.claim import Heartbeats, Lease
from treadle.runner.manager_client import ManagerClient
from treadle.runner.manager_types import Claim, Registration, Run

LEASE_MS = 600


class Manager:
    """Renews whatever heartbeats name, but for what is `lost`; `refuse` may answer instead."""

    def __init__(self) -> None:
        self.beats: list[list[str]] = []
        self.lost: set[str] = set()
        self.silent: set[str] = set()
        self.draining = False
        self.cmd_last: dict[str, int] = {}
        self.refuse: Callable[[], httpx.Response | Exception | None] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/runners/x/heartbeat"
        names = [run["runId"] for run in msgspec.json.decode(request.content)["runs"]]
        self.beats.append(names)
        answer = self.refuse()
        if isinstance(answer, Exception):
            raise answer
        return answer or httpx.Response(200, json=self._renewals(names))

    def _renewals(self, names: list[str]) -> dict[str, Any]:
        kept = [name for name in names if name not in self.lost | self.silent]
        runs = [
            {"runId": name, "remainingMs": LEASE_MS, "cmdLast": self.cmd_last.get(name, 0)}
            for name in kept
        ]
        lost = [name for name in names if name in self.lost]
        return {"lost": lost, "runs": runs, "draining": self.draining}


class Scene:
    """Runs held by one registration."""

    def __init__(self, heartbeats: Heartbeats, tasks: TaskScope) -> None:
        self.heartbeats = heartbeats
        self.keeping: dict[str, asyncio.Task[None]] = {}
        self._tasks = tasks

    def hold(self, name: str, epoch: int = 1) -> Lease:
        run = Run(id=name, status="claimed")
        claim = Claim(
            run_id=name, epoch=epoch, token="t", lease_ms=LEASE_MS, remaining_ms=LEASE_MS, run=run
        )
        lease = Lease(self.heartbeats, claim, SystemClock())
        self.keeping[name] = self._tasks.start(lease.keep(), name)
        return lease


@asynccontextmanager
async def scene(manager: Manager) -> AsyncGenerator[Scene]:
    client = ManagerClient("http://manager.test", transport=httpx.MockTransport(manager))
    tasks = TaskScope("test")
    registration = Registration(id="x", token="s")
    try:
        async with asyncio.timeout(10):
            yield Scene(Heartbeats(client, registration, SystemClock()), tasks)
    finally:
        await tasks.close()
        await client.close()


async def beats(manager: Manager, count: int) -> None:
    while len(manager.beats) < count:
        await asyncio.sleep(0.01)


async def test_one_request_renews_all_runs_of_a_runner() -> None:
    manager = Manager()
    async with scene(manager) as held:
        leases = [held.hold(name) for name in "abc"]
        await beats(manager, 6)  # the runs live for longer than one lease
        assert all(sorted(names) == ["a", "b", "c"] for names in manager.beats)
        assert not any(lease.lost.is_set() for lease in leases)


async def test_a_run_that_is_claimed_later_falls_into_step() -> None:
    manager = Manager()
    async with scene(manager) as held:
        held.hold("a")
        await asyncio.sleep(LEASE_MS / 1000 / 6)
        held.hold("b")
        await beats(manager, 4)
        assert [sorted(names) for names in manager.beats] == [["a", "b"]] * len(manager.beats)


async def test_one_lost_run_does_not_touch_the_others() -> None:
    manager = Manager()
    manager.lost = {"b"}
    manager.cmd_last = {"a": 3}
    async with scene(manager) as held:
        a, b, c = (held.hold(name) for name in "abc")
        await b.lost.wait()
        assert "another runner" in b.lost_reason
        before = len(manager.beats)
        await beats(manager, before + 4)
        assert all(sorted(names) == ["a", "c"] for names in manager.beats[before:])
        assert not a.lost.is_set()
        assert not c.lost.is_set()
        assert (a.cmd_last, a.cmd_news.is_set(), c.cmd_news.is_set()) == (3, True, False)


async def test_a_run_that_the_answer_leaves_out_fences_itself_alone() -> None:
    manager = Manager()
    manager.silent = {"b"}
    async with scene(manager) as held:
        a, b = (held.hold(name) for name in "ab")
        await b.lost.wait()
        assert b.lost_reason == "the lease could not be renewed in time"
        await beats(manager, len(manager.beats) + 3)
        assert not a.lost.is_set()


async def test_a_run_that_is_being_given_back_is_not_lost() -> None:
    manager = Manager()
    manager.lost = {"b"}
    async with scene(manager) as held:
        _, b = (held.hold(name) for name in "ab")
        b.is_given_back = True
        await beats(manager, 2)
        assert not b.lost.is_set()


async def test_a_failed_request_is_tried_again_once_for_all() -> None:
    manager = Manager()
    fates: list[httpx.Response | Exception | None] = [
        httpx.ReadError("cut"),
        httpx.Response(503, json={"code": "overloaded"}),
    ]
    manager.refuse = lambda: fates.pop(0) if fates else None
    async with scene(manager) as held:
        leases = [held.hold(name) for name in "abc"]
        await beats(manager, 5)
        assert all(len(names) == 3 for names in manager.beats)
        assert not any(lease.lost.is_set() for lease in leases)


@pytest.mark.parametrize("status", [401, 404])
async def test_a_registration_that_counts_no_more_loses_all_its_runs_at_once(status: int) -> None:
    manager = Manager()
    manager.refuse = lambda: httpx.Response(status, json={"code": "gone", "detail": "unknown"})
    async with scene(manager) as held:
        leases = [held.hold(name) for name in "abc"]
        for lease in leases:
            await lease.lost.wait()
        assert {lease.lost_reason for lease in leases} == {"unknown"}
        assert len(manager.beats) == 1


async def test_a_manager_that_stays_away_costs_every_run_in_time() -> None:
    manager = Manager()
    manager.refuse = lambda: httpx.ConnectError("away")
    async with scene(manager) as held:
        began = asyncio.get_running_loop().time()
        for lease in [held.hold(name) for name in "abc"]:
            await lease.lost.wait()
            assert lease.lost_reason == "the lease could not be renewed in time"
        assert asyncio.get_running_loop().time() - began >= LEASE_MS / 1000 * 0.8 - 0.01


async def test_draining_reaches_every_run_and_what_was_given_back_is_not_named() -> None:
    manager = Manager()
    manager.draining = True
    async with scene(manager) as held:
        a, b = (held.hold(name) for name in "ab")
        await a.draining.wait()
        await b.draining.wait()
        held.heartbeats.let_go(a)
        before = len(manager.beats)
        b.put_off()
        await beats(manager, before + 2)
        assert manager.beats[-1] == ["b"]


async def test_a_run_that_ends_while_its_heartbeat_is_under_way_leaves_the_others_held() -> None:
    manager = Manager()
    async with scene(manager) as held:

        def end_the_asker() -> None:
            if len(manager.beats) == 1:
                held.keeping["a"].cancel()

        manager.refuse = end_the_asker
        a, b = (held.hold(name) for name in "ab")
        await beats(manager, 4)
        assert manager.beats[0] == ["a", "b"]
        assert manager.beats[-1] == ["b"]
        assert not a.lost.is_set()
        assert not b.lost.is_set()


async def test_the_same_run_claimed_anew_replaces_the_earlier_lease() -> None:
    manager = Manager()
    async with scene(manager) as held:
        old = held.hold("a")
        await beats(manager, 1)
        new = held.hold("a", epoch=2)
        await old.lost.wait()
        await beats(manager, 3)
        assert not new.lost.is_set()
        assert all(names == ["a"] for names in manager.beats)
