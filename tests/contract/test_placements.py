"""Runs whose runners are placed, over each implementation of `Repository`."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.test_repository import Plane, plane, setting
from treadle.control.db.repository import Claimant, Departure
from treadle.control.faults import NotFound
from treadle.control.placed import GivenUp, PlacedRun
from treadle.control.records import RegisterRequest, ReleaseRequest, Run
from treadle.domain.failures import FailureKind

__all__ = ["plane", "setting"]

JOB = "kubernetes-job"


async def placed_run(plane: Plane, **body: Any) -> Run:
    run = await plane.run(placement=JOB, **body)
    await plane.command(run)
    return run


async def placed(plane: Plane, *named: str, limit: int = 100) -> list[PlacedRun]:
    return await plane.repository.read_placed(JOB, limit, list(named))


def given_up(run: Run, epoch: int, kind: FailureKind = FailureKind.RUNNER_CRASHED) -> GivenUp:
    return GivenUp(run.id, epoch, kind, "No pod came.")


async def test_the_pool_leaves_them_and_a_directed_claim_takes_them(plane: Plane) -> None:
    run, other = await placed_run(plane), await plane.run()
    await plane.command(other)
    await plane.repository.register_runner(RegisterRequest(id="a"))
    taken = await plane.repository.claim_waiting(Claimant("a", None, 1000), None, 5)
    assert [claim.run_id for claim in taken] == [other.id]
    assert (await plane.claim(run)).run.placement == JOB
    assert (await plane.repository.read_run(other.id)).placement == "process"


async def test_those_that_want_a_runner_or_have_one_are_told_of(plane: Plane) -> None:
    waiting, held, idle = [await placed_run(plane) for _ in range(3)]
    ended = await plane.run(placement=JOB)
    await plane.run()
    claim = await plane.claim(held)
    lent = await plane.claim(idle)
    await plane.command(ended, "cancel")
    found = {each.run_id: each for each in await placed(plane, ended.id, "missing", "odd\0id")}
    assert found.keys() == {waiting.id, held.id, idle.id, ended.id}
    assert found[waiting.id] == PlacedRun(waiting.id, 0, None, None, True, False)
    assert found[held.id] == PlacedRun(held.id, claim.epoch, "a", "1", False, False)
    assert (found[ended.id].is_waiting, found[ended.id].is_ended) == (False, True)
    await plane.repository.release(idle.id, lent.token, ReleaseRequest(lent.epoch))
    assert [each.run_id for each in await placed(plane, limit=1)] == [waiting.id]
    assert [each.run_id for each in await placed(plane, held.id, limit=1)] == [waiting.id, held.id]
    assert [each.is_waiting for each in await placed(plane)] == [True, False, True]


async def test_an_attempt_is_given_up_once_and_its_epoch_is_used_up(plane: Plane) -> None:
    run = await placed_run(plane)
    assert await plane.repository.give_up_attempt(given_up(run, 1)) is True
    assert await plane.repository.give_up_attempt(given_up(run, 1)) is False
    assert await plane.repository.give_up_attempt(given_up(run, 3)) is False
    claim = await plane.claim(run)
    assert (claim.epoch, claim.reason, claim.run.attempt) == (2, "unplaced", 2)
    assert await plane.repository.give_up_attempt(given_up(run, 2)) is False
    assert await plane.repository.give_up_attempt(given_up(run, 3)) is False
    phases = await plane.phases(run)
    assert phases == ["run-created", "command-created", "run-placement-failed", "run-claimed"]
    await plane.check(run)
    with pytest.raises(NotFound):
        await plane.repository.give_up_attempt(GivenUp("x", 1, FailureKind.RUNNER_CRASHED, ""))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FailureKind.SECRET_UNAVAILABLE, "blocked"),
        (FailureKind.DEADLINE_EXCEEDED, "failed"),
    ],
)
async def test_what_no_attempt_mends_ends_the_run(
    plane: Plane, kind: FailureKind, status: str
) -> None:
    run = await placed_run(plane)
    assert await plane.repository.give_up_attempt(given_up(run, 1, kind)) is True
    found = await plane.repository.read_run(run.id)
    assert (found.status, found.failure_kind, found.failure_message) == (
        status,
        kind,
        "No pod came.",
    )
    assert await plane.repository.give_up_attempt(given_up(run, 2, kind)) is False
    await plane.check(run)


async def test_a_claimed_attempt_can_still_be_said_to_be_the_last(plane: Plane) -> None:
    run = await placed_run(plane)
    claim = await plane.claim(run)
    late = given_up(run, 1, FailureKind.DEADLINE_EXCEEDED)
    assert await plane.repository.give_up_attempt(late) is False, "it is held"
    await plane.repository.release(run.id, claim.token, ReleaseRequest(claim.epoch))
    assert await plane.repository.give_up_attempt(given_up(run, 1)) is False, "it was not lost"
    assert await plane.repository.give_up_attempt(late) is True
    assert (await plane.repository.read_run(run.id)).status == "failed"
    await plane.check(run)


async def test_a_run_to_be_cancelled_waits_for_no_further_attempt(plane: Plane) -> None:
    run = await placed_run(plane)
    session = (await plane.repository.register_runner(RegisterRequest(id="a"))).session_id
    await plane.repository.claim(run.id, Claimant("a", None, 60_000))
    cancel = await plane.command(run, "cancel")
    await plane.repository.end_session(Departure("a", session, "its pod was evicted"))
    assert (await plane.repository.read_run(run.id)).terminal_status is None
    assert await plane.repository.give_up_attempt(given_up(run, 2)) is True
    assert (await plane.repository.read_run(run.id)).status == "cancelled"
    assert (await plane.repository.read_command(run.id, cancel.id)).state == "completed"
    await plane.check(run)


async def test_losses_of_leases_and_of_placements_count_together(plane: Plane) -> None:
    run = await placed_run(plane, maxAttempts=2)
    assert await plane.repository.give_up_attempt(given_up(run, 1)) is True
    session = (await plane.repository.register_runner(RegisterRequest(id="a"))).session_id
    await plane.repository.claim(run.id, Claimant("a", None, 60_000))
    await plane.repository.end_session(Departure("a", session, "its pod was evicted"))
    found = await plane.repository.read_run(run.id)
    assert (found.status, found.failure_kind) == ("failed", "runner-crashed")
    await plane.check(run)


async def test_a_departure_may_end_the_run_by_its_kind(plane: Plane) -> None:
    run = await placed_run(plane)
    session = (await plane.repository.register_runner(RegisterRequest(id="a"))).session_id
    await plane.repository.claim(run.id, Claimant("a", None, 60_000))
    kind = FailureKind.DEADLINE_EXCEEDED
    assert await plane.repository.end_session(Departure("a", session, "late", kind=kind)) == [
        run.id
    ]
    found = await plane.repository.read_run(run.id)
    assert (found.status, found.failure_kind) == ("failed", kind)
    assert found.failure_message == "The runner is gone: late."
    await plane.check(run)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["claim", "release", "give up", "hopeless", "turn", "lapse"]),
        st.integers(-1, 2),
    ),
    max_size=12,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(MOVES)
async def test_epochs_only_grow_and_the_log_explains_all(
    plane: Plane, moves: list[tuple[str, int]]
) -> None:
    run, claim, epoch = await placed_run(plane, maxAttempts=3), None, 0
    for move, offset in moves:
        found = await plane.repository.read_run(run.id)
        assert found.epoch >= epoch
        epoch = found.epoch
        if found.terminal_status is not None:
            break
        if move == "claim" and found.claimed_by is None:
            claim = await plane.claim(run, lease_ms=1000)
            assert claim.epoch == epoch + 1
        elif move == "release" and claim is not None and found.claimed_by is not None:
            await plane.repository.release(run.id, claim.token, ReleaseRequest(claim.epoch))
        elif move == "lapse":
            plane.clock.advance(2)
            await plane.repository.lapse_leases(10)
        elif move == "turn":
            await plane.command(run)
        elif move in ("give up", "hopeless"):
            hopeless = move == "hopeless"
            kind = FailureKind.DEADLINE_EXCEEDED if hopeless else FailureKind.RUNNER_CRASHED
            wanted = epoch + offset
            took = await plane.repository.give_up_attempt(given_up(run, wanted, kind))
            free = found.claimed_by is None
            assert took == (free and (offset == 1 or (offset == 0 and hopeless)))
    await plane.check(run)
