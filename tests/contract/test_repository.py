"""The promises of `Repository`, over each implementation."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.postgres import DatabaseClock
from treadle.control import rules
from treadle.control.access import EVERYTHING, Scope
from treadle.control.db.postgres import open_postgres
from treadle.control.db.postgres_hints import Wakes
from treadle.control.db.repository import (
    WORK_WAITING,
    Claimant,
    Repository,
    RequestKey,
    RunnerQuery,
    RunQuery,
)
from treadle.control.db.sqlite import open_sqlite
from treadle.control.faults import (
    BadToken,
    DatabaseUnusable,
    EventsGone,
    Fenced,
    IdempotencyConflict,
    InvalidRequest,
    LeaseHeld,
    NotFound,
    ProducerGap,
    RunBusy,
    RunEnded,
    RunnerDraining,
)
from treadle.control.records import (
    AppendAnswer,
    AppendRequest,
    Claim,
    Command,
    CommandRequest,
    HeartbeatRequest,
    HeldRun,
    NewEvent,
    RegisterRequest,
    ReleaseRequest,
    Run,
    RunRequest,
)
from treadle.kit.clock import ManualClock, parse_iso


class Plane:
    """A repository with the short forms that the tests use."""

    def __init__(self, repository: Repository, clock: ManualClock, rung: list[str]) -> None:
        self.repository = repository
        self.clock = clock
        self.rung = rung

    async def run(self, key: str | None = None, **body: Any) -> Run:
        spec = rules.make_spec(msgspec.convert(body, RunRequest))
        digest = hashlib.sha256(msgspec.json.encode(spec)).digest()
        request_key = RequestKey(key, digest) if key else None
        stored = await self.repository.create_run(spec, request_key)
        return msgspec.json.decode(stored.body, type=Run)

    async def command(
        self, run: Run, type_: str = "turn", key: str | None = None, **payload: Any
    ) -> Command:
        expires_in_ms = payload.pop("expires_in_ms", None)
        payload = payload or ({"prompt": "hi"} if type_ == "turn" else {})
        body = {"type": type_, "payload": payload, "expiresInMs": expires_in_ms}
        request = msgspec.convert(body, CommandRequest)
        encoded = msgspec.json.encode(payload)
        request_key = RequestKey(key, hashlib.sha256(encoded).digest()) if key else None
        stored = await self.repository.create_command(run.id, request, encoded, request_key)
        return msgspec.json.decode(stored.body, type=Command)

    async def claim(self, run: Run, runner: str = "a", lease_ms: int = 1000) -> Claim:
        await self.repository.register_runner(RegisterRequest(id=runner, attempt_id="1"))
        return await self.repository.claim(run.id, Claimant(runner, None, lease_ms))

    async def append(self, claim: Claim, first: int, *events: NewEvent) -> AppendAnswer:
        request = AppendRequest(claim.epoch, first, list(events))
        return await self.repository.append(claim.run_id, claim.token, request)

    async def phases(self, run: Run) -> list[str]:
        page = await self.repository.read_events(run.id, 0, 1000)
        payloads = [msgspec.json.decode(e.payload) for e in page.items]
        return [payload["phase"] for payload in payloads if "phase" in payload]

    async def check(self, run: Run) -> None:
        assert await self.repository.verify_run(run.id) == []


def text(number: int = 0) -> NewEvent:
    return NewEvent("command_output", msgspec.Raw(b'{"text":"line %d"}' % number))


def phase(name: str, command: Command | None = None, **payload: Any) -> NewEvent:
    body = msgspec.json.encode({"phase": name, **payload})
    return NewEvent("backend_status", msgspec.Raw(body), command_id=command.id if command else None)


class Setting:
    """One kind of database, empty, with its clock; can be opened more than once."""

    def __init__(self, open_: Callable[[Wakes], Awaitable[Repository]], clock: ManualClock) -> None:
        self.open = open_
        self.clock = clock


class Rung:
    """Notes what was rung."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def ring(self, run_ids: frozenset[str]) -> None:
        self.ids += run_ids

    def watched(self) -> frozenset[str]:
        return frozenset()


def on_sqlite(folder: Path) -> Iterator[Setting]:
    clock = ManualClock()
    yield Setting(lambda wakes: open_sqlite(folder / "manager.db", clock, wakes.ring), clock)


def on_postgres(url: str) -> Iterator[Setting]:
    clock = DatabaseClock(url)
    yield Setting(lambda wakes: open_postgres(url, wakes), clock)
    clock.empty_tables()
    clock.close()


@pytest.fixture(params=["sqlite", "postgres"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setting]:
    if request.param == "sqlite":
        yield from on_sqlite(tmp_path)
    else:
        yield from on_postgres(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def plane(setting: Setting) -> AsyncIterator[Plane]:
    rung = Rung()
    repository = await setting.open(rung)
    yield Plane(repository, setting.clock, rung.ids)
    await repository.close()


async def test_a_run_and_its_commands_read_back_as_they_were_asked(plane: Plane) -> None:
    run = await plane.run(tenantId="t", labels={"a": "b"}, sessionRef={"threadId": "x"})
    command = await plane.command(run, prompt="hello", model="m")
    assert await plane.repository.read_run(run.id) == msgspec.structs.replace(
        run, cmd_last=1, last_seq=2
    )
    assert (run.status, run.terminal_status, run.claimed_by) == ("pending", None, None)
    assert await plane.repository.read_command(run.id, command.id) == command
    assert msgspec.json.decode(command.payload) == {"prompt": "hello", "model": "m"}
    assert command.cmd_seq == 1
    await plane.check(run)


async def test_what_does_not_exist_is_not_found(plane: Plane) -> None:
    run = await plane.run()
    repository = plane.repository
    for call in (
        repository.read_run("no"),
        repository.read_events("no", 0, 1),
        repository.read_result("no", None),
        repository.read_command(run.id, "no"),
        repository.read_result(run.id, "no"),
        repository.claim(run.id, Claimant("unregistered", None, 1000)),
    ):
        with pytest.raises(NotFound):
            await call


async def test_the_same_key_has_one_effect_and_one_answer(plane: Plane) -> None:
    first, again = await asyncio.gather(plane.run("k"), plane.run("k"))
    assert first == again
    assert len(await plane.repository.list_runs(RunQuery(limit=10))) == 1
    one = await plane.command(first, key="c")
    await plane.command(first, prompt="other")
    assert await plane.command(first, key="c") == one
    with pytest.raises(IdempotencyConflict):
        await plane.command(first, key="c", prompt="different")
    assert (await plane.repository.list_commands(first.id, 0, 10)).cmd_last == 2
    await plane.check(first)


async def test_a_key_answers_after_the_end_of_the_run_too(plane: Plane) -> None:
    run = await plane.run()
    one = await plane.command(run, key="c")
    await plane.command(run, "cancel")
    assert await plane.command(run, key="c") == one
    with pytest.raises(RunEnded):
        await plane.command(run)


async def test_runs_are_listed_newest_first_page_by_page(plane: Plane) -> None:
    made = [(await plane.run(tenantId=t)).id for t in ("a", "b", "a")]
    listed = await plane.repository.list_runs(RunQuery(limit=2))
    assert [run.id for run in listed] == [made[2], made[1]]
    rest = await plane.repository.list_runs(RunQuery(limit=2, cursor=made[1]))
    assert [run.id for run in rest] == [made[0]]
    of_a = await plane.repository.list_runs(RunQuery(limit=9, tenant_id="a"))
    assert [run.id for run in of_a] == [made[2], made[0]]


async def test_a_one_shot_run_goes_from_claim_to_its_result(plane: Plane) -> None:
    run = await plane.run()
    command = await plane.command(run)
    claim = await plane.claim(run)
    assert [c.id for c in claim.commands] == [command.id]
    assert (claim.epoch, claim.reason, claim.run.status) == (1, "first", "claimed")
    await plane.append(claim, 1, phase("command-acknowledged", command))
    assert (await plane.repository.read_run(run.id)).status == "running"
    answer = await plane.append(
        claim,
        2,
        phase("command-terminal", command, state="completed"),
        phase("run-terminal", terminalStatus="completed"),
    )
    assert answer.acked_producer_seq == 3
    ended = await plane.repository.read_run(run.id)
    assert (ended.status, ended.terminal_status) == ("completed", "completed")
    assert (ended.claimed_by, ended.lease_remaining_ms) == ("a", None)
    assert (await plane.repository.read_command(run.id, command.id)).state == "completed"
    assert (await plane.repository.read_result(run.id, command.id)).completed
    with pytest.raises(RunEnded):
        await plane.claim(run, "b")
    with pytest.raises(RunEnded):
        await plane.append(claim, 4, text())
    assert run.id in plane.rung
    await plane.check(run)


async def test_a_failed_command_leaves_a_serving_run_open(plane: Plane) -> None:
    run = await plane.run()
    command = await plane.command(run)
    claim = await plane.claim(run)
    failed = phase("command-terminal", command, state="failed", failureKind="provider-http-error")
    await plane.append(claim, 1, phase("command-acknowledged", command), failed)
    request = ReleaseRequest(claim.epoch, "idle-timeout")
    for _ in range(2):
        released = await plane.repository.release(run.id, claim.token, request)
        assert released.status == "claimed"
    now = await plane.repository.read_run(run.id)
    assert (now.status, now.terminal_status, now.failure_kind) == ("claimed", None, None)
    assert now.claimed_by is None
    by_run = await plane.repository.read_result(run.id, command.id)
    assert by_run.failure_kind == "provider-http-error"
    with pytest.raises(Fenced):
        await plane.append(claim, 3, text())
    await plane.check(run)


async def test_a_repeated_batch_is_acknowledged_and_stored_once(plane: Plane) -> None:
    run = await plane.run()
    claim = await plane.claim(run)
    events = [text(n) for n in range(4)]
    await plane.append(claim, 1, *events[:2])
    again = await plane.append(claim, 1, *events[:2])
    overlap = await plane.append(claim, 2, *events[1:])
    assert (again.duplicate, again.acked_producer_seq) == (True, 2)
    assert (overlap.duplicate, overlap.acked_producer_seq) == (False, 4)
    page = await plane.repository.read_events(run.id, 0, 100)
    sent = [e.payload for e in page.items if e.type == "command_output"]
    assert [bytes(p) for p in sent] == [bytes(e.payload) for e in events]
    await plane.check(run)


async def test_a_gap_names_what_is_expected_and_stores_nothing(plane: Plane) -> None:
    run = await plane.run()
    claim = await plane.claim(run)
    with pytest.raises(ProducerGap) as caught:
        await plane.append(claim, 2, text())
    assert caught.value.expected == 1
    assert (await plane.repository.read_progress(run.id)).last_seq == claim.last_seq


async def test_a_batch_with_one_bad_event_leaves_no_trace(plane: Plane) -> None:
    run = await plane.run()
    claim = await plane.claim(run)
    ended = phase("run-terminal", terminalStatus="completed")
    for bad in (
        [text(), NewEvent("command_output", msgspec.Raw(b"[1]"))],
        [text(), phase("command-terminal", state="completed")],
        [text(), NewEvent("error", msgspec.Raw(b'{"a":"\xff"}'))],
        [ended, text()],
    ):
        with pytest.raises(InvalidRequest):
            await plane.append(claim, 1, *bad)
    assert (await plane.repository.read_progress(run.id)).last_seq == claim.last_seq
    assert (await plane.append(claim, 1, text())).acked_producer_seq == 1


async def test_a_wrong_token_writes_nothing(plane: Plane) -> None:
    run = await plane.run()
    claim = await plane.claim(run)
    with pytest.raises(BadToken):
        await plane.repository.append(run.id, "x", AppendRequest(claim.epoch, 1, [text()]))
    with pytest.raises(BadToken):
        await plane.repository.release(run.id, "", ReleaseRequest(claim.epoch))
    with pytest.raises(BadToken):
        await plane.repository.heartbeat("a", claim.token, HeartbeatRequest())
    assert (await plane.repository.read_progress(run.id)).last_seq == claim.last_seq


async def test_a_stale_lease_is_waited_for_taken_over_and_fences_the_old_holder(
    plane: Plane,
) -> None:
    run = await plane.run()
    await plane.command(run)
    old = await plane.claim(run, "stale", lease_ms=300)
    await plane.append(old, 1, text(), text())
    for _ in range(2):
        with pytest.raises(LeaseHeld) as caught:
            await plane.claim(run, "fresh")
        assert caught.value.retry_after_ms == 300
    plane.clock.advance(0.3)
    new = await plane.claim(run, "fresh")
    assert (new.epoch, new.reason) == (2, "expired")
    with pytest.raises(Fenced) as fenced:
        await plane.append(old, 3, text())
    assert fenced.value.epoch == 2
    first = await plane.append(new, 1, text())
    assert (first.acked_producer_seq, first.duplicate) == (1, False)
    assert (await plane.repository.read_run(run.id)).claimed_by == "fresh"
    assert await plane.phases(run) == [
        "run-created",
        "command-created",
        "run-claimed",
        "runner-claim-waiting-for-stale-lease",
        "run-lease-expired",
        "run-claimed",
        "runner-claim-recovered",
    ]
    await plane.check(run)


async def test_the_sweeper_takes_a_lapsed_lease_and_the_takeover_shows(plane: Plane) -> None:
    run = await plane.run()
    await plane.command(run)
    old = await plane.claim(run, "stale", lease_ms=300)
    plane.clock.advance(0.299)
    assert await plane.repository.lapse_leases(10) == 0
    await plane.append(old, 1, text())
    plane.clock.advance(0.299)
    assert await plane.repository.lapse_leases(10) == 0
    plane.clock.advance(0.001)
    assert await plane.repository.lapse_leases(10) == 1
    assert (await plane.repository.read_run(run.id)).status == "pending"
    with pytest.raises(Fenced):
        await plane.append(old, 2, text())
    with pytest.raises(Fenced):
        await plane.repository.release(run.id, old.token, ReleaseRequest(old.epoch))
    new = await plane.claim(run, "fresh")
    assert new.epoch == 2
    phases = await plane.phases(run)
    assert phases[-3:] == [
        "runner-claim-waiting-for-stale-lease",
        "run-claimed",
        "runner-claim-recovered",
    ]
    await plane.check(run)


async def test_too_many_lost_leases_fail_the_run(plane: Plane) -> None:
    run = await plane.run(maxAttempts=2)
    command = await plane.command(run)
    claim = await plane.claim(run, lease_ms=100)
    await plane.append(claim, 1, phase("command-acknowledged", command))
    plane.clock.advance(1)
    await plane.repository.lapse_leases(10)
    await plane.claim(run, lease_ms=100)
    plane.clock.advance(1)
    await plane.repository.lapse_leases(10)
    ended = await plane.repository.read_run(run.id)
    assert (ended.status, ended.failure_kind) == ("failed", "lease-lost")
    assert (await plane.repository.read_command(run.id, command.id)).state == "failed"
    await plane.check(run)


async def test_a_heartbeat_renews_what_is_held_and_names_what_is_lost(plane: Plane) -> None:
    runs = [await plane.run() for _ in range(3)]
    registered = await plane.repository.register_runner(RegisterRequest(id="a"))
    claims = [
        await plane.repository.claim(run.id, Claimant("a", None, lease))
        for run, lease in zip(runs, (1000, 1000, 100), strict=True)
    ]
    await plane.repository.register_runner(RegisterRequest(id="b"))
    plane.clock.advance(0.5)
    await plane.repository.claim(runs[2].id, Claimant("b", None, 1000))
    held = [HeldRun(claim.run_id, claim.epoch) for claim in claims]
    held[1] = HeldRun(runs[1].id, 7)
    await plane.command(runs[0], "cancel")
    answer = await plane.repository.heartbeat("a", registered.token, HeartbeatRequest(held))
    assert sorted(answer.lost) == sorted([runs[1].id, runs[2].id])
    assert [(r.run_id, r.cancel, r.remaining_ms) for r in answer.runs] == [(runs[0].id, True, 1000)]
    plane.clock.advance(0.6)
    assert await plane.repository.lapse_leases(10) == 1
    assert (await plane.repository.read_run(runs[0].id)).claimed_by == "a"


async def test_pool_claims_take_the_oldest_open_work_that_nobody_holds(plane: Plane) -> None:
    runs = [await plane.run(backendProfile=p) for p in ("x", "y", "x", "x")]
    for run in runs[:3]:
        await plane.command(run)
    held = await plane.claim(runs[0])
    repository = plane.repository
    await repository.register_runner(RegisterRequest(id="p"))
    pool = Claimant("p", None, 1000)
    assert [c.run_id for c in await repository.claim_waiting(pool, "y", 5)] == [runs[1].id]
    assert [c.run_id for c in await repository.claim_waiting(pool, None, 5)] == [runs[2].id]
    await repository.release(runs[0].id, held.token, ReleaseRequest(held.epoch))
    again = await repository.claim_waiting(pool, None, 5)
    assert [(c.run_id, c.epoch, c.reason) for c in again] == [(runs[0].id, 2, "released")]
    assert await repository.claim_waiting(pool, None, 5) == []


OWNERS = [("a", "p"), ("a", "q"), ("b", "p")]


async def test_pool_claims_at_once_give_each_scope_its_own_runs_and_each_run_once(
    plane: Plane,
) -> None:
    runs = [await plane.run(tenantId=tenant, projectId=project) for tenant, project in OWNERS * 3]
    for run in runs:
        await plane.command(run)
    repository = plane.repository
    scopes = [Scope("a"), Scope("a", "p"), Scope("b"), EVERYTHING]
    claimants = [Claimant(f"r{number}", None, 1000, scope) for number, scope in enumerate(scopes)]
    for claimant in claimants:
        await repository.register_runner(RegisterRequest(id=claimant.runner_id), claimant.scope)
    owner = {run.id: Scope(run.tenant_id, run.project_id) for run in runs}
    taken: list[str] = []
    for _ in range(len(runs)):
        calls = [repository.claim_waiting(claimant, None, 1) for claimant in claimants]
        for claimant, claims in zip(claimants, await asyncio.gather(*calls), strict=True):
            taken += [claim.run_id for claim in claims]
            assert all(claimant.scope.holds(owner[claim.run_id]) for claim in claims)
    assert sorted(taken) == sorted(owner)
    with pytest.raises(NotFound):
        await repository.claim_waiting(replace(claimants[0], scope=Scope("b")), None, 1)


async def test_pool_waiters_are_told_only_when_a_run_waits_for_a_runner(plane: Plane) -> None:
    run = await plane.run()
    assert WORK_WAITING not in plane.rung
    await plane.command(run)
    assert WORK_WAITING in plane.rung
    plane.rung.clear()
    claim = await plane.claim(run, lease_ms=300)
    await plane.append(claim, 1, text())
    await plane.command(run)
    assert run.id in plane.rung
    assert WORK_WAITING not in plane.rung
    plane.clock.advance(1)
    await plane.repository.lapse_leases(10)
    assert WORK_WAITING in plane.rung


async def test_an_interrupt_without_a_turn_is_rejected_at_once(plane: Plane) -> None:
    run = await plane.run()
    interrupt = await plane.command(run, "interrupt")
    assert (interrupt.state, interrupt.failure_message) == ("rejected", "turn-not-active")
    await plane.check(run)


async def test_an_interrupt_of_a_turn_that_nobody_holds_closes_both(plane: Plane) -> None:
    run = await plane.run()
    turn = await plane.command(run)
    interrupt = await plane.command(run, "interrupt", reason="stop")
    assert interrupt.state == "completed"
    closed = await plane.repository.read_result(run.id, turn.id)
    assert (closed.status, closed.failure_kind) == ("cancelled", "cancelled")
    assert (await plane.repository.read_run(run.id)).terminal_status is None
    await plane.check(run)


async def test_an_interrupt_of_a_held_turn_waits_for_the_runner(plane: Plane) -> None:
    run = await plane.run()
    turn = await plane.command(run)
    claim = await plane.claim(run)
    await plane.append(claim, 1, phase("command-acknowledged", turn))
    interrupt = await plane.command(run, "interrupt")
    assert (interrupt.state, interrupt.target_command_id) == ("pending", turn.id)
    assert (await plane.repository.read_run(run.id)).status == "interrupting"
    answer = await plane.append(
        claim,
        2,
        phase("interrupt-command-acknowledged", interrupt),
        phase("command-terminal", interrupt, state="completed"),
        phase("command-terminal", turn, state="cancelled"),
        phase("run-terminal", terminalStatus="cancelled"),
    )
    assert answer.cmd_last == 2
    assert (await plane.repository.read_command(run.id, interrupt.id)).state == "completed"
    envelope = await plane.repository.read_result(run.id, turn.id)
    assert (envelope.terminal_status, envelope.failure_kind) == ("cancelled", "cancelled")
    await plane.check(run)


async def test_a_cancel_ends_a_run_that_nobody_holds(plane: Plane) -> None:
    run = await plane.run()
    turn = await plane.command(run)
    cancel = await plane.command(run, "cancel")
    assert cancel.state == "completed"
    assert (await plane.repository.read_run(run.id)).status == "cancelled"
    assert (await plane.repository.read_command(run.id, turn.id)).state == "cancelled"
    await plane.check(run)


async def test_a_run_that_rejects_when_busy_takes_one_open_turn(plane: Plane) -> None:
    run = await plane.run(busyPolicy="reject")
    await plane.command(run)
    with pytest.raises(RunBusy):
        await plane.command(run)
    await plane.command(run, "interrupt")
    await plane.command(run)


async def test_a_drained_runner_gets_no_run_until_it_registers_again(plane: Plane) -> None:
    run = await plane.run()
    await plane.command(run)
    held = await plane.claim(await plane.run(), "a")
    shown = await plane.repository.drain_runner("a", True)
    assert (shown.draining, shown.held_runs) == (True, 1)
    claimant = Claimant("a", None, 1000)
    with pytest.raises(RunnerDraining):
        await plane.repository.claim(run.id, claimant)
    with pytest.raises(RunnerDraining):
        await plane.repository.claim_waiting(claimant, None, 1)
    again = await plane.repository.register_runner(RegisterRequest(id="a"))
    held_runs = HeartbeatRequest(runs=[HeldRun(held.run_id, held.epoch)])
    answer = await plane.repository.heartbeat("a", again.token, held_runs)
    assert (answer.draining, answer.lost) == (False, [])
    assert len(await plane.repository.claim_waiting(claimant, None, 1)) == 1
    with pytest.raises(NotFound):
        await plane.repository.drain_runner("nobody", True)


async def test_runners_are_listed_by_when_they_were_heard_of_page_by_page(plane: Plane) -> None:
    for name in ("a", "b", "c"):
        await plane.repository.register_runner(RegisterRequest(id=name, labels={"zone": name}))
        plane.clock.advance(1)
    await plane.repository.claim_waiting(Claimant("a", None, 1000), None, 1)
    first = await plane.repository.list_runners(RunnerQuery(limit=2))
    assert [runner.id for runner in first] == ["a", "c"]
    seen = round(parse_iso(first[-1].last_seen_at) * 1000)
    rest = await plane.repository.list_runners(RunnerQuery(2, (seen, "c")))
    assert [(runner.id, runner.labels, runner.held_runs) for runner in rest] == [
        ("b", {"zone": "b"}, 0)
    ]
    assert rest[0].silent_ms >= 2000


async def test_a_turn_that_is_not_taken_up_in_time_is_closed_by_whoever_looks_first(
    plane: Plane,
) -> None:
    swept, claimed, held = [await plane.run() for _ in range(3)]
    held_claim = await plane.claim(held)
    late = [await plane.command(run, expires_in_ms=500) for run in (swept, claimed, held)]
    kept = await plane.command(claimed, expires_in_ms=60_000)
    plane.clock.advance(1)
    assert [c.id for c in (await plane.claim(claimed)).commands] == [kept.id]
    await plane.append(held_claim, 1, phase("command-acknowledged", late[2]))
    assert await plane.repository.expire_commands(10) == 1
    assert await plane.repository.expire_commands(10) == 0
    for run, command in zip((swept, claimed, held), late, strict=True):
        assert (await plane.repository.read_command(run.id, command.id)).state == "expired"
        await plane.check(run)
    assert (await plane.repository.read_run(swept.id)).status == "pending"
    assert await plane.repository.claim_waiting(Claimant("a", None, 1000), None, 9) == []


async def test_an_acknowledgement_in_time_keeps_a_turn(plane: Plane) -> None:
    run = await plane.run()
    claim = await plane.claim(run)
    turn = await plane.command(run, expires_in_ms=500)
    await plane.append(claim, 1, phase("command-acknowledged", turn))
    plane.clock.advance(0.9)
    assert await plane.repository.expire_commands(10) == 0
    assert (await plane.repository.read_command(run.id, turn.id)).state == "delivered"


async def test_a_page_of_large_events_is_cut_but_never_empty(plane: Plane) -> None:
    run = await plane.run()
    claim = await plane.claim(run)
    big = NewEvent("command_output", msgspec.Raw(b'{"text":"%s"}' % (b"x" * 700_000)))
    await plane.append(claim, 1, big, big)
    first = await plane.repository.read_events(run.id, claim.last_seq, 100)
    rest = await plane.repository.read_events(run.id, claim.last_seq + 1, 100)
    assert ([e.seq for e in first.items], [e.seq for e in rest.items]) == ([3], [4])


async def test_readers_of_many_logs_at_once_each_get_their_page(plane: Plane) -> None:
    runs = [await plane.run() for _ in range(3)]
    claims = [await plane.claim(run, f"r{n}") for n, run in enumerate(runs)]
    for number, claim in enumerate(claims):
        await plane.append(claim, 1, *[text(number * 10 + n) for n in range(4)])
    asked = [(run.id, after, limit) for run in runs for after in (0, 3, 6) for limit in (2, 100)]
    read = plane.repository.read_events
    reads = [*(read(*each) for each in asked * 2), read("no", 0, 1)]
    pages = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(pages.pop(), NotFound)
    for (run_id, after, limit), page in zip(asked * 2, pages, strict=True):
        assert not isinstance(page, BaseException)
        assert page == await read(run_id, after, limit)
        assert [event.seq for event in page.items] == list(range(after + 1, 7))[:limit]
        assert {event.run_id for event in page.items} <= {run_id}


async def test_appenders_racing_on_many_runs_leave_gapless_logs(plane: Plane) -> None:
    runs = [await plane.run() for _ in range(8)]
    claims = [await plane.claim(run, f"r{n}") for n, run in enumerate(runs)]

    async def write(claim: Claim) -> None:
        for first in range(1, 41, 2):
            await plane.append(claim, first, text(first), text(first + 1))

    await asyncio.gather(*(write(claim) for claim in claims))
    for run, claim in zip(runs, claims, strict=True):
        progress = await plane.repository.read_progress(run.id)
        assert progress.last_seq == claim.last_seq + 40
        await plane.check(run)


async def ended_run(plane: Plane, lines: int, key: str | None = None) -> Run:
    run = await plane.run()
    command = await plane.command(run, key=key)
    claim = await plane.claim(run)
    done = phase("run-terminal", terminalStatus="completed")
    await plane.append(claim, 1, *[text(n) for n in range(lines)])
    closed = phase("command-terminal", command, state="completed")
    await plane.append(claim, lines + 1, closed, done)
    return run


DAY_MS = 24 * 3600 * 1000


async def test_old_logs_go_a_little_at_a_time_and_readers_are_told_where_they_begin(
    plane: Plane,
) -> None:
    old = await ended_run(plane, 20)
    open_run = await plane.run()
    repository = plane.repository
    plane.clock.advance(2 * 86_400)
    young = await ended_run(plane, 1)
    assert await repository.drop_old_events(3 * DAY_MS, 10) == 0
    last_seq = (await repository.read_progress(old.id)).last_seq
    assert await repository.drop_old_events(DAY_MS, 10) == 10
    with pytest.raises(EventsGone) as gone:
        await repository.read_events(old.id, 9, 100)
    assert gone.value.min_seq == 11
    page = await repository.read_events(old.id, 10, 100)
    assert [event.seq for event in page.items] == list(range(11, last_seq + 1))
    await plane.check(old)
    assert await repository.drop_old_events(DAY_MS, 100) == last_seq - 10
    assert await repository.drop_old_events(DAY_MS, 100) == 0
    assert (await repository.read_progress(old.id)).min_seq == last_seq + 1
    page = await repository.read_events(old.id, last_seq, 100)
    assert (page.items, page.terminal) == ([], True)
    assert (await repository.read_run(old.id)).status == "completed"
    assert (await repository.read_result(old.id, None)).completed
    for run in (old, open_run, young):
        await plane.check(run)
    assert (await repository.read_events(young.id, 0, 1)).items[0].seq == 1
    assert (await repository.read_events(open_run.id, 0, 1)).items[0].seq == 1


async def test_old_runs_are_forgotten_once_their_events_went(plane: Plane) -> None:
    old = [await ended_run(plane, 1, key="k") for _ in range(3)]
    keyed = await plane.run(key="run-key")
    repository = plane.repository
    plane.clock.advance(2 * 86_400)
    assert await repository.forget_old_runs(DAY_MS, 10) == 0
    await repository.drop_old_events(DAY_MS, 1000)
    assert await repository.forget_old_runs(3 * DAY_MS, 10) == 0
    assert await repository.forget_old_runs(DAY_MS, 2) == 2
    assert await repository.forget_old_runs(DAY_MS, 2) == 1
    for run in old:
        with pytest.raises(NotFound):
            await repository.read_run(run.id)
    assert [run.id for run in await repository.list_runs(RunQuery(limit=9))] == [keyed.id]
    assert (await plane.run(key="run-key")).id != keyed.id


async def test_what_was_answered_is_there_after_reopening_with_a_lease_of_grace(
    setting: Setting,
) -> None:
    repository = await setting.open(Rung())
    plane = Plane(repository, setting.clock, [])
    run = await plane.run()
    claim = await plane.claim(run, lease_ms=1000)
    await plane.append(claim, 1, text())
    await repository.close()
    await repository.close()
    setting.clock.advance(60)
    again = await setting.open(Rung())
    try:
        reopened = Plane(again, setting.clock, [])
        assert await again.lapse_leases(10) == 0
        assert (await reopened.append(claim, 2, text())).acked_producer_seq == 2
        await reopened.check(run)
    finally:
        await again.close()


async def test_a_second_opener_of_the_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    first = await open_sqlite(path, ManualClock(), lambda _: None)
    try:
        with pytest.raises(DatabaseUnusable, match=r"in use by another manager \(process \d+\)"):
            await open_sqlite(path, ManualClock(), lambda _: None)
    finally:
        await first.close()
    second = await open_sqlite(path, ManualClock(), lambda _: None)
    await second.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(b"this is a text, long enough to be taken for a header" * 20)
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match="as a database"):
        await open_sqlite(path, ManualClock(), lambda _: None)
    assert path.read_bytes() == before


moves = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sampled_from("ab"), st.integers(100, 400)),
        st.tuples(st.just("append"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(1, 500), st.just(0)),
        st.tuples(st.just("command"), st.sampled_from(["turn", "interrupt"]), st.just(0)),
        st.tuples(st.just("close"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("sweep"), st.just(0), st.just(0)),
        st.tuples(st.just("release"), st.integers(0, 3), st.just(0)),
    ),
    max_size=30,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=moves)
async def test_any_order_of_moves_keeps_the_log_s_invariants(
    plane: Plane, script: list[tuple[str, Any, Any]]
) -> None:
    run = await plane.run()
    claims: list[Claim] = []
    sent: dict[int, int] = {}
    turns: list[Command] = []
    acknowledged = 0
    preface: list[tuple[str, Any, Any]] = [("claim", "a", 300), ("append", 0, 2)]
    for kind, one, two in preface + script:
        try:
            if kind == "claim":
                claims.append(await plane.claim(run, one, two))
            elif kind == "append" and claims:
                claim = claims[-1 - one % len(claims)]
                first = max(1, sent.get(claim.epoch, 0) + 2 - two)
                answer = await plane.append(claim, first, *[text() for _ in range(two)])
                fresh = answer.acked_producer_seq - sent.get(claim.epoch, 0)
                sent[claim.epoch] = answer.acked_producer_seq
                acknowledged += fresh
            elif kind == "wait":
                plane.clock.advance(one / 1000)
            elif kind == "command":
                command = await plane.command(run, one)
                turns += [command] if one == "turn" else []
            elif kind == "close" and claims and turns:
                claim = claims[-1]
                closed = phase("command-terminal", turns[one % len(turns)], state="completed")
                await plane.append(claim, sent.get(claim.epoch, 0) + 1, closed)
                sent[claim.epoch] = sent.get(claim.epoch, 0) + 1
                acknowledged += 1
            elif kind == "sweep":
                await plane.repository.lapse_leases(10)
            elif kind == "release" and claims:
                claim = claims[-1 - one % len(claims)]
                await plane.repository.release(run.id, claim.token, ReleaseRequest(claim.epoch))
        except (Fenced, LeaseHeld, RunEnded):
            continue
    assert [c.epoch for c in claims] == list(range(1, len(claims) + 1))
    page = await plane.repository.read_events(run.id, 0, 1000)
    assert sum(1 for e in page.items if e.epoch is not None) == acknowledged
    await plane.check(run)
