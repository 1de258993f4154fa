"""A runner killed at any place in its code: the next one finishes, and nothing is lost or doubled.

What reached the dead runner's spool has to be in the log exactly once. Without
`TREADLE_TEST_FAULTS=all` only some places are tried.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

from faults.checker import check
from faults.collect import read_final
from faults.history import FinalRun, History
from fleet.harness import FAKE_ARGS, SOURCE, Fleet, Work
from support.command_line import Home, start
from support.fault_places import places_of
from treadle.runner.setup import SPOOL_FOLDER
from treadle.runner.spool import find_leftovers

LEASE_MS = 700
SOME = {
    "runner.backend.part-read",
    "runner.recovery.replayed",
    "runner.report.answered",
    "runner.spool.written",
    "runner.turn.ended",
}
# A runner comes by these only when an earlier one left something, or gives the run back.
NEEDS_LEFTOVER = {"runner.recovery.replayed", "runner.spool.dropping"}
NEEDS_RELEASE = {"runner.run.releasing"}
# At its second passage there is something before it and something after it.
PASSAGE = {"runner.spool.writing": 3, "runner.spool.written": 3}
# What the backend has to do for a runner to come by.
MODE = {"runner.backend.part-read": "part-of-a-line"}


def places() -> list[str]:
    everything = os.environ.get("TREADLE_TEST_FAULTS") == "all"
    return [place for place in places_of("runner") if everything or place in SOME]


async def run_runner(
    work: Work, *, points: str = "", mode: str = "flood", one_shot: bool = True
) -> int:
    """A runner as a process, to its end; its exit code."""
    home = work.fleet.codex_home
    variables = {
        "PYTHONPATH": SOURCE,
        "TREADLE_FAKE_BACKEND_MODE": mode,
        "TREADLE_FAKE_BACKEND_COUNT": "2000",
        "TREADLE_FAULT_POINTS": points,
    }
    arguments = ["runner", "once", "--manager-url", work.fleet.url, "--run-id", work.run_id]
    arguments += ["--lease-ms", str(LEASE_MS), "--claim-retry-interval-ms", "50"]
    arguments += ["--codex-home", str(home), "--codex-command", sys.executable]
    arguments += [f"--codex-arg={argument}" for argument in FAKE_ARGS]
    arguments += ["--idle-timeout-ms", "300", "--poll-interval-ms", "100"]
    if one_shot:
        arguments.append("--one-shot")
    running = await start(Home(work.fleet.tmp / "command", variables), *arguments)
    try:
        return (await running.finish()).code
    finally:
        await running.kill()


async def read_checked(work: Work) -> FinalRun:
    """The run in the end, against all invariants."""
    final = await read_final(work.fleet.url, work.run_id)
    assert [str(violation) for violation in check(History(final={work.run_id: final}))] == []
    return final


@pytest.mark.parametrize("place", places())
async def test_a_runner_killed_there_loses_and_doubles_nothing(fleet: Fleet, place: str) -> None:
    work = await fleet.create("flood")
    (fleet.tmp / "command").mkdir()
    if place in NEEDS_LEFTOVER:
        code = await run_runner(work, points="runner.report.sending=kill@3")
        assert code == -signal.SIGKILL
    points = f"{place}=kill@{PASSAGE.get(place, 1)}"
    one_shot = place not in NEEDS_RELEASE
    mode = MODE.get(place, "flood")
    code = await run_runner(work, points=points, mode=mode, one_shot=one_shot)
    assert code == -signal.SIGKILL

    spooled = find_leftovers(Path(work.fleet.codex_home) / SPOOL_FOLDER, work.run_id, 1 << 30)
    if place == "runner.run.ended":
        return await _nothing_is_left(work)
    if place in NEEDS_RELEASE:
        await fleet.client.post_command(work.run_id, "close", {}, idempotency_key="close")
        one_shot = False
    assert await run_runner(work, one_shot=one_shot) == 0
    final = await read_checked(work)
    assert final.terminal_status == "completed"
    origins = {event.origin for event in final.log}
    closed = {row.id for row in final.commands}
    for leftover in spooled:
        for producer_seq, event in leftover.events:
            is_told = (leftover.epoch, producer_seq) in origins
            assert is_told or b"recoveredFrom" in bytes(event.payload), (leftover.epoch, event)
    assert len(closed) == (2 if place in NEEDS_RELEASE else 1)
    return None


async def _nothing_is_left(work: Work) -> None:
    """The run had ended when the runner died."""
    final = await read_checked(work)
    assert final.terminal_status == "completed"
    assert await run_runner(work) == 0
