"""How events reach the manager when it is away, full, or does not want them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from treadle.kit.clock import SystemClock
from treadle.kit.redact import Redactor
from treadle.kit.tasks import TaskScope
from treadle.runner.claim import Heartbeats, Lease
from treadle.runner.manager_client import ManagerClient
from treadle.runner.manager_types import Claim, Registration, Run
from treadle.runner.report import BACKLOG_EVENTS, Lost, Reporter
from treadle.runner.shape import Draft
from treadle.runner.spool import Spool, find_leftovers

Handler = Callable[[dict[str, Any]], httpx.Response]


class Manager:
    """Takes appends as the real one does, unless `refuse` has something to say."""

    def __init__(self) -> None:
        self.refuse: Callable[[list[dict[str, Any]]], httpx.Response | Exception | None]
        self.refuse = lambda events: None
        self.log: list[dict[str, Any]] = []
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        body = msgspec.json.decode(request.content)
        answer = self.refuse(body["events"])
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        known = len(self.log) - body["firstProducerSeq"] + 1
        assert known >= 0, "a gap"
        self.log += body["events"][known:]
        return httpx.Response(200, json={"ackedProducerSeq": len(self.log), "remainingMs": 9000})


@asynccontextmanager
async def reporting(
    folder: Path, manager: Manager, *secrets: str
) -> AsyncGenerator[tuple[Reporter, Lease]]:
    clock = SystemClock()
    run = Run(id="run", status="claimed")
    claim = Claim(run_id="run", epoch=1, token="t", lease_ms=10_000, remaining_ms=10_000, run=run)
    client = ManagerClient("http://manager.test", transport=httpx.MockTransport(manager))
    heartbeats = Heartbeats(client, Registration(id="x", token="s"), clock)
    lease = Lease(heartbeats, claim, clock)
    spool = Spool(folder, "run", 1)
    reporter = Reporter(client, lease, spool, clock, Redactor(secrets))
    tasks = TaskScope("test")
    reporter.start(tasks)
    try:
        async with asyncio.timeout(10):
            yield reporter, lease
    finally:
        await tasks.close()
        spool.close(discard=False)
        await client.close()


def output(text: str) -> Draft:
    return Draft("command_output", {"text": text})


def texts(manager: Manager) -> list[str]:
    return [event["payload"].get("text", "-") for event in manager.log]


def problem(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": code})


async def test_events_arrive_in_order_and_in_batches(tmp_path: Path) -> None:
    manager = Manager()
    async with reporting(tmp_path, manager) as (reporter, _):
        for number in range(250):
            reporter.tell(output(str(number)))
        await reporter.flush()
        assert texts(manager) == [str(number) for number in range(250)]
        assert manager.calls == 3
        assert reporter.is_drained


async def test_a_lost_answer_doubles_nothing(tmp_path: Path) -> None:
    manager = Manager()
    lost = [True]

    def lose_once(events: list[dict[str, Any]]) -> Exception | None:
        if lost and lost.pop():
            manager.log += events
            return httpx.ReadError("cut")
        return None

    manager.refuse = lose_once
    async with reporting(tmp_path, manager) as (reporter, _):
        reporter.tell(output("once"))
        await reporter.flush()
        assert texts(manager) == ["once"]


@pytest.mark.parametrize("answer", [problem(503, "overloaded"), problem(500, "internal")])
async def test_a_manager_in_trouble_is_asked_again(tmp_path: Path, answer: httpx.Response) -> None:
    manager = Manager()
    answers: list[httpx.Response | None] = [answer, answer]
    manager.refuse = lambda events: answers.pop() if answers else None
    async with reporting(tmp_path, manager) as (reporter, _):
        reporter.tell(output("patient"))
        await reporter.flush()
        assert texts(manager) == ["patient"]


@pytest.mark.parametrize("code", ["fenced", "terminal"])
async def test_a_fenced_write_loses_the_run_and_wakes_who_waits(tmp_path: Path, code: str) -> None:
    manager = Manager()
    manager.refuse = lambda events: problem(409, code)
    async with reporting(tmp_path, manager) as (reporter, lease):
        reporter.tell(output("late"))
        with pytest.raises(Lost):
            await reporter.flush()
        assert lease.lost.is_set()
    [leftover] = find_leftovers(tmp_path, "run", 2)
    assert [seq for seq, _ in leftover.events] == [1]


async def test_one_event_that_is_refused_does_not_hold_up_the_others(tmp_path: Path) -> None:
    manager = Manager()

    def no_poison(events: list[dict[str, Any]]) -> httpx.Response | None:
        bad = any(event["payload"].get("text") == "poison" for event in events)
        return problem(400, "invalid-request") if bad else None

    manager.refuse = no_poison
    async with reporting(tmp_path, manager) as (reporter, _):
        for text in ("a", "b", "poison", "c"):
            reporter.tell(output(text))
        await reporter.flush()
        assert texts(manager) == ["a", "b", "-", "c"]
        assert manager.log[2]["payload"]["phase"] == "event-refused"


async def test_secrets_reach_neither_manager_nor_spool(tmp_path: Path) -> None:
    manager = Manager()
    async with reporting(tmp_path, manager, "canary-secret") as (reporter, _):
        reporter.tell(
            Draft("error", {"message": "canary-secret", "canary-secret": ["canary-secret"]})
        )
        await reporter.flush()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"canary" not in stored + repr(manager.log).encode()


async def test_a_backlog_holds_the_producer_back_until_it_shrinks(tmp_path: Path) -> None:
    manager = Manager()
    answers = [True]
    manager.refuse = lambda events: problem(503, "overloaded") if answers else None
    async with reporting(tmp_path, manager) as (reporter, _):
        for number in range(BACKLOG_EVENTS):
            reporter.tell(output(str(number)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reporter.room()
        answers.clear()
        await reporter.room()
