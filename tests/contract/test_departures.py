"""A registration that was reported gone, over each implementation of `Repository`."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.test_repository import Plane, phase, plane, setting, text
from treadle.control.access import Scope
from treadle.control.db.repository import WORK_WAITING, Claimant, Departure
from treadle.control.faults import Fenced, LeaseHeld, NotFound, RunEnded, RunnerGone
from treadle.control.records import (
    Claim,
    HeartbeatRequest,
    HeldRun,
    RegisterRequest,
    ReleaseRequest,
)

__all__ = ["plane", "setting"]

LEASE_MS = 600_000


async def session_of(plane: Plane, runner_id: str) -> str:
    return (await plane.repository.read_runner(runner_id)).session_id


async def test_all_leases_of_the_session_lapse_at_once_and_no_other(plane: Plane) -> None:
    registration = await plane.repository.register_runner(RegisterRequest(id="a"))
    await plane.repository.register_runner(RegisterRequest(id="b"))
    runs = [await plane.run() for _ in range(4)]
    for run in runs:
        await plane.command(run)
    a = Claimant("a", "1", LEASE_MS, session_id=registration.session_id)
    mine = [await plane.repository.claim(run.id, a) for run in runs[:3]]
    theirs = await plane.repository.claim(runs[3].id, Claimant("b", None, LEASE_MS))
    await plane.repository.release(runs[2].id, mine[2].token, ReleaseRequest(mine[2].epoch))
    plane.rung.clear()

    departure = Departure("a", registration.session_id, "killed by SIGKILL")
    assert await plane.repository.end_session(departure) == [run.id for run in runs[:2]]
    assert {WORK_WAITING, runs[0].id, runs[1].id} <= set(plane.rung)
    for claim in mine[:2]:
        with pytest.raises(Fenced):
            await plane.append(claim, 1, text())
        request = ReleaseRequest(claim.epoch)
        with pytest.raises(Fenced):
            await plane.repository.release(claim.run_id, claim.token, request)
    held = HeartbeatRequest([HeldRun(claim.run_id, claim.epoch) for claim in mine[:2]])
    answer = await plane.repository.heartbeat("a", registration.token, held)
    assert sorted(answer.lost) == sorted(run.id for run in runs[:2])
    assert (await plane.append(theirs, 1, text())).acked_producer_seq == 1

    taken = await plane.repository.claim_waiting(Claimant("b", None, LEASE_MS), None, 5)
    assert [(claim.run_id, claim.epoch, claim.reason) for claim in taken] == [
        (runs[0].id, 2, "gone"),
        (runs[1].id, 2, "gone"),
        (runs[2].id, 2, "released"),
    ]
    assert (await plane.phases(runs[0]))[2:] == [
        "run-claimed",
        "run-lease-expired",
        "runner-claim-waiting-for-stale-lease",
        "run-claimed",
        "runner-claim-recovered",
    ]
    for run in runs:
        await plane.check(run)


async def test_a_report_again_changes_nothing(plane: Plane) -> None:
    run = await plane.run()
    await plane.claim(run, lease_ms=LEASE_MS)
    departure = Departure("a", await session_of(plane, "a"))
    assert await plane.repository.end_session(departure) == [run.id]
    gone_at = (await plane.repository.read_runner("a")).gone_at
    seq = (await plane.repository.read_progress(run.id)).last_seq
    plane.clock.advance(1)
    assert await plane.repository.end_session(departure) == []
    assert (await plane.repository.read_runner("a")).gone_at == gone_at is not None
    assert (await plane.repository.read_progress(run.id)).last_seq == seq


async def test_a_session_that_is_over_claims_nothing_until_it_registers_again(plane: Plane) -> None:
    run = await plane.run()
    await plane.command(run)
    await plane.repository.register_runner(RegisterRequest(id="a"))
    over = await session_of(plane, "a")
    await plane.repository.end_session(Departure("a", over))
    for claimant in (Claimant("a", None, LEASE_MS), Claimant("a", None, LEASE_MS, session_id=over)):
        with pytest.raises(RunnerGone):
            await plane.repository.claim(run.id, claimant)
        with pytest.raises(RunnerGone):
            await plane.repository.claim_waiting(claimant, None, 1)
    again = await plane.repository.register_runner(RegisterRequest(id="a"))
    assert (await plane.repository.read_runner("a")).gone_at is None
    with pytest.raises(RunnerGone):
        await plane.repository.claim(run.id, Claimant("a", None, LEASE_MS, session_id=over))
    now = Claimant("a", None, LEASE_MS, session_id=again.session_id)
    assert len(await plane.repository.claim_waiting(now, None, 1)) == 1


async def test_a_late_report_of_an_earlier_process_leaves_the_new_one_alone(plane: Plane) -> None:
    old_run, new_run = await plane.run(), await plane.run()
    await plane.claim(old_run, lease_ms=LEASE_MS)
    earlier = await session_of(plane, "a")
    claim = await plane.claim(new_run, lease_ms=LEASE_MS)  # registers under the same id
    assert await plane.repository.end_session(Departure("a", earlier)) == [old_run.id]
    runner = await plane.repository.read_runner("a")
    assert (runner.gone_at, runner.held_runs) == (None, 1)
    assert (await plane.append(claim, 1, text())).acked_producer_seq == 1
    assert await plane.repository.end_session(Departure("a", "never-was")) == []


async def test_too_many_exits_fail_the_run_and_say_what_happened(plane: Plane) -> None:
    run = await plane.run(maxAttempts=2)
    command = await plane.command(run)
    for _ in range(2):
        claim = await plane.claim(run, lease_ms=LEASE_MS)
        await plane.append(claim, 1, phase("command-acknowledged", command))
        session = await session_of(plane, "a")
        await plane.repository.end_session(Departure("a", session, "exited with 137"))
    ended = await plane.repository.read_run(run.id)
    assert (ended.status, ended.failure_kind) == ("failed", "runner-crashed")
    assert "exited with 137" in str(ended.failure_message)
    assert (await plane.repository.read_command(run.id, command.id)).state == "failed"
    await plane.check(run)


async def test_runners_of_others_are_not_found(plane: Plane) -> None:
    scope = Scope("mine")
    await plane.repository.register_runner(RegisterRequest(id="a"), scope)
    session = await session_of(plane, "a")
    with pytest.raises(NotFound):
        await plane.repository.end_session(Departure("a", session, scope=Scope("other")))
    with pytest.raises(NotFound):
        await plane.repository.read_runner("a", Scope("other"))
    with pytest.raises(NotFound):
        await plane.repository.end_session(Departure("nobody", session))
    assert await plane.repository.end_session(Departure("a", session, scope=scope)) == []
    assert (await plane.repository.read_runner("a", scope)).gone_at is not None


moves = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sampled_from("ab"), st.integers(100, 400)),
        st.tuples(st.just("append"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 300), st.just(0)),
        st.tuples(st.just("sweep"), st.just(0), st.just(0)),
        st.tuples(st.just("gone"), st.integers(0, 3), st.just(0)),
    ),
    max_size=20,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=moves)
async def test_whatever_is_reported_a_lease_has_one_holder(
    plane: Plane, script: list[tuple[str, Any, Any]]
) -> None:
    """Each claim is of a registration of its own; late, false and repeated reports come as well."""
    run = await plane.run(maxAttempts=1000)
    claims: list[Claim] = []
    departures: list[Departure] = []
    preface: list[tuple[str, Any, Any]] = [("claim", "a", 300)]
    for kind, one, two in preface + script:
        try:
            if kind == "claim":
                claims.append(await plane.claim(run, one, two))
                departures.append(Departure(one, await session_of(plane, one)))
            elif kind == "append":
                claim = claims[-1 - one % len(claims)]
                await plane.append(claim, 1, text())
                assert claim is claims[-1], "a lease that was over wrote"
            elif kind == "wait":
                plane.clock.advance(one / 1000)
            elif kind == "sweep":
                await plane.repository.lapse_leases(10)
            else:
                back = one % len(claims)
                lapsed = await plane.repository.end_session(departures[-1 - back])
                assert lapsed in ([], [run.id] if back == 0 else []), "another's lease lapsed"
        except (Fenced, LeaseHeld, RunEnded):
            continue
    assert [claim.epoch for claim in claims] == list(range(1, len(claims) + 1))
    await plane.check(run)
