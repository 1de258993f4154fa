"""Runners that die, stall or lose their lease, and the ones that come after them."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet.harness import FAKE_ARGS, SOURCE, Fleet, Work, phase, phases, place
from treadle.kit.clock import SystemClock
from treadle.runner.claim import Claimant, Patience, acquire
from treadle.runner.manager_client import ManagerClient
from treadle.runner.manager_types import (
    AppendAnswer,
    Event,
    HeartbeatAnswer,
    NewEvent,
    Registration,
)
from treadle.runner.run_once import RunnerOptions, serve
from treadle.runner.setup import SPOOL_FOLDER
from treadle.runner.spool import Spool

RUNNER = """
import asyncio, json, sys
from treadle.runner.run_once import RunnerOptions, run_once
asyncio.run(run_once(RunnerOptions(**json.loads(sys.argv[1]))))
"""


def pool_options(fleet: Fleet, mode: str | None, **more: Any) -> RunnerOptions:
    """Those of a runner whose backend is the fake one, in its usual mode or in another."""
    env = {"PYTHONPATH": SOURCE} | ({"AGENTRUN_FAKE_CODEX_MODE": mode} if mode else {})
    return RunnerOptions(
        manager_url=fleet.url,
        codex_command=sys.executable,
        codex_args=FAKE_ARGS,
        codex_home=str(fleet.codex_home),
        env=env,
        **more,
    )


def is_tool_start(event: Event) -> bool:
    return event.type == "tool_call"


async def start_runner_process(work: Work, mode: str) -> asyncio.subprocess.Process:
    options = {
        "manager_url": work.fleet.url,
        "run_id": work.run_id,
        "lease_ms": 500,
        "codex_command": sys.executable,
        "codex_args": FAKE_ARGS,
        "codex_home": str(work.fleet.codex_home),
        "env": {"PYTHONPATH": SOURCE, "AGENTRUN_FAKE_CODEX_MODE": mode},
        "one_shot": True,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUNNER, json.dumps(options), env={"PYTHONPATH": SOURCE}
    )


def told(payload: dict[str, Any], command_id: str | None = None) -> NewEvent:
    kind = "backend_status" if "phase" in payload else "command_output"
    raw = msgspec.Raw(msgspec.json.encode(payload))
    return NewEvent(type=kind, payload=raw, command_id=command_id)


async def test_a_killed_runner_is_replaced_and_its_turn_is_run_again(fleet: Fleet) -> None:
    work = await fleet.create("survive")
    process = await start_runner_process(work, "missing-terminal")
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    process.kill()
    await process.wait()
    result = await work.go(claim_retry_timeout_ms=5_000, claim_retry_interval_ms=50)
    assert result.terminal_status == "completed"
    events = await work.events()
    recovered = phase(events, "turn/completed")
    assert (recovered["status"], recovered["reason"]) == ("interrupted", "recovery")
    assert phases(events).count("thread/start:completed") == 1
    assert phases(events).count("thread/resume:completed") == 1
    assert phases(events).count("run-terminal") == 1


async def test_a_killed_runner_takes_a_deaf_backend_and_its_children_along(fleet: Fleet) -> None:
    work = await fleet.create("leave nothing")
    process = await start_runner_process(work, "ignore-signals")
    said = await work.until(lambda e: str(e.payload.get("text")).startswith("child "))
    child = Path("/proc") / str(said.payload["text"]).split()[-1]
    assert child.exists()
    process.kill()
    await process.wait()
    async with asyncio.timeout(10):
        while child.exists() and "\nState:\tZ" not in (child / "status").read_text():
            await asyncio.wait({asyncio.create_task(fleet.client.get_run(work.run_id))})


async def test_a_stopped_runner_that_wakes_up_writes_nothing_more(fleet: Fleet) -> None:
    work = await fleet.create("zombie")
    process = await start_runner_process(work, "missing-terminal")
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    os.kill(process.pid, signal.SIGSTOP)
    result = await work.go(claim_retry_timeout_ms=5_000, claim_retry_interval_ms=50)
    assert result.terminal_status == "completed"
    before = await work.events()
    os.kill(process.pid, signal.SIGCONT)
    async with asyncio.timeout(10):
        await process.wait()
    assert await work.events() == before
    assert {e.epoch for e in before if e.type == "assistant_message"} == {2}


async def test_what_a_dead_runner_spooled_is_told_once(fleet: Fleet) -> None:
    work = await fleet.create("spooled")
    claim = await claim_as_dead_runner(work)
    events = [told({"text": f"output {number}"}, work.command_id) for number in range(1, 5)]
    await spool_as(work, claim.epoch, events)
    await fleet.client.append(work.run_id, claim.token, claim.epoch, 1, events[:2])
    result = await work.go(claim_retry_timeout_ms=5_000, claim_retry_interval_ms=50)
    assert result.terminal_status == "completed"
    log = await work.events()
    outputs = [e.payload for e in log if e.type == "command_output"]
    assert [payload["text"] for payload in outputs] == [f"output {n}" for n in range(1, 5)]
    assert [payload.get("recovered", False) for payload in outputs] == [False, False, True, True]
    note = phase(log, "spool-recovered")
    assert (note["epoch"], note["firstProducerSeq"], note["count"]) == (1, 3, 2)


async def test_a_turn_whose_end_was_only_spooled_is_not_run_again(fleet: Fleet) -> None:
    work = await fleet.create("done already")
    claim = await claim_as_dead_runner(work)
    ends = [
        told({"phase": "command-terminal", "state": "completed"}, work.command_id),
        told({"phase": "run-terminal", "terminalStatus": "completed"}),
    ]
    await spool_as(work, claim.epoch, ends)
    result = await work.go(claim_retry_timeout_ms=5_000, claim_retry_interval_ms=50)
    assert (result.terminal_status, result.stopped) == ("completed", "run-ended")
    log = await work.events()
    assert "codex-app-server-starting" not in phases(log)
    assert (await work.command()).state == "completed"


async def test_a_runner_that_dies_while_it_recovers_doubles_nothing(fleet: Fleet) -> None:
    """The same events wait in two spools then: the first runner's, and in part the second's."""
    work = await fleet.create("twice dead")
    first = await claim_as_dead_runner(work)
    events = [told({"text": f"output {number}"}, work.command_id) for number in range(1, 6)]
    await spool_as(work, first.epoch, events)
    await fleet.client.append(work.run_id, first.token, first.epoch, 1, events[:1])
    second = await claim_as_dead_runner(work, "runner_dead_too")
    again = [
        told(
            {
                "text": f"output {number}",
                "recovered": True,
                "recoveredFrom": {"epoch": first.epoch, "producerSeq": number},
            },
            work.command_id,
        )
        for number in range(2, 5)
    ]
    await spool_as(work, second.epoch, again)
    await fleet.client.append(work.run_id, second.token, second.epoch, 1, again[:2])
    result = await work.go(claim_retry_timeout_ms=5_000, claim_retry_interval_ms=50)
    assert result.terminal_status == "completed"
    outputs = [e.payload["text"] for e in await work.events() if e.type == "command_output"]
    assert outputs == [f"output {number}" for number in range(1, 6)]


async def test_an_end_that_was_only_spooled_does_not_end_a_turn_again(fleet: Fleet) -> None:
    """Between two runners the turn was interrupted: that end stands."""
    work = await fleet.create("interrupted when nobody was there")
    claim = await claim_as_dead_runner(work)
    end = told({"phase": "command-terminal", "state": "completed"}, work.command_id)
    await spool_as(work, claim.epoch, [end])
    await work.until(lambda e: e.payload.get("phase") == "run-lease-expired")
    client = fleet.client
    await client.post_command(work.run_id, "interrupt", {}, idempotency_key="interrupt")
    assert (await work.command()).state == "cancelled"
    await client.post_command(work.run_id, "turn", {"prompt": "next"}, idempotency_key="next")
    assert (await work.go()).terminal_status == "completed"
    ends = [
        e.payload["state"]
        for e in await work.events()
        if e.payload.get("phase") == "command-terminal" and e.command_id == work.command_id
    ]
    assert ends == ["cancelled"]


async def claim_as_dead_runner(work: Work, name: str = "runner_dead") -> Any:
    """A claim by a runner of which nobody hears again; waits for the lease of another dead one."""
    client = work.fleet.client
    registration = await client.register(id=name, runId=work.run_id, attemptId=name)
    claimant = Claimant(registration, name, 300)
    return await acquire(client, work.run_id, claimant, Patience(5.0, 0.05), SystemClock())


async def spool_as(work: Work, epoch: int, events: list[NewEvent]) -> None:
    spool = Spool(Path(work.fleet.codex_home) / SPOOL_FOLDER, work.run_id, epoch)
    await spool.write(1, events)
    spool.close(discard=False)


class _Cut(ManagerClient):
    """A client whose writes do not arrive once `is_cut` is set."""

    is_cut = False

    async def append(
        self, run_id: str, claim_token: str, epoch: int, first: int, events: list[NewEvent]
    ) -> AppendAnswer:
        await self._lose()
        return await super().append(run_id, claim_token, epoch, first, events)

    async def heartbeat(
        self, runner_id: str, session_token: str, runs: list[dict[str, Any]]
    ) -> HeartbeatAnswer:
        await self._lose()
        return await super().heartbeat(runner_id, session_token, runs)

    async def _lose(self) -> None:
        if _Cut.is_cut:
            await asyncio.Event().wait()


async def test_a_partitioned_runner_fences_itself_before_its_lease_ends(
    fleet: Fleet, monkeypatch: Any
) -> None:
    monkeypatch.setattr("treadle.runner.run_once.ManagerClient", _Cut)
    monkeypatch.setattr(_Cut, "is_cut", False)
    work = await fleet.create("partition")
    running = asyncio.create_task(work.go("missing-terminal", lease_ms=1_000))
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    monkeypatch.setattr(_Cut, "is_cut", True)
    async with asyncio.timeout(5):
        result = await running
    assert (result.stopped, result.failure_kind) == ("lease-lost", "lease-lost")
    assert (await work.command()).state == "delivered"


async def test_a_cancelled_runner_gives_the_run_back_at_once(fleet: Fleet) -> None:
    work = await fleet.create("stop")
    running = asyncio.create_task(work.go("missing-terminal"))
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    running.cancel()
    await asyncio.wait({running}, timeout=10)
    assert running.cancelled()
    assert (await fleet.client.get_run(work.run_id)).lease_remaining_ms is None
    assert (await work.go()).terminal_status == "completed"


async def test_a_live_runner_that_is_reported_gone_stops_and_starts_anew(fleet: Fleet) -> None:
    """A false report costs it the run, and the run never has two owners."""
    work = await fleet.create("falsely reported")
    options = pool_options(fleet, "missing-terminal", runner_id="alive", lease_ms=900)
    registered: list[Registration] = []
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(options, stop, registered=registered.append))
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    answer = await fleet.client.report_gone("alive", registered[0].session_id, "it seemed so")
    assert answer.lapsed_runs == [work.run_id]
    result = await work.go()
    assert result.terminal_status == "completed"
    events = await work.events()
    ends = place(events, lambda e: e.payload.get("phase") == "run-lease-expired")
    assert {event.epoch for event in events[ends:]} <= {None, 2}
    # It learns of it, gives the run up, and goes on under a registration of its own.
    other = await fleet.create("for whoever is alive")
    await other.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    assert (await fleet.client.get_run(other.run_id)).claimed_by == "alive"
    assert registered[-1].session_id != registered[0].session_id
    stop.set()
    await fleet.client.post_command(other.run_id, "interrupt", {})
    async with asyncio.timeout(10):
        await serving
    assert (await fleet.client.get_runner("alive")).gone_at is not None


async def test_a_run_that_cannot_be_begun_is_given_back_at_once(
    fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    work = await fleet.create("no room")
    with pytest.raises(OSError, match="file"):
        await work.go(spool_dir=str(tmp_path / "file" / "spool"))
    run_ = await fleet.client.get_run(work.run_id)
    assert (run_.status, run_.lease_remaining_ms) == ("pending", None)
    assert (await work.go()).terminal_status == "completed"


async def test_a_serving_runner_that_breaks_ends_its_turns_and_fails(
    fleet: Fleet, monkeypatch: Any
) -> None:
    work = await fleet.create("at work")
    options = pool_options(fleet, "slow-tool-events", runner_id="broken")
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(options, stop, max_runs=3))
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")

    async def breaks(*_: Any, **__: Any) -> Any:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(ManagerClient, "claim_from_pool", breaks)
    await fleet.create("for the second place")  # ends the claim that waits
    with pytest.raises(RuntimeError, match="nobody thought"):
        async with asyncio.timeout(20):
            await serving
    assert (await work.command()).state == "completed"
    assert (await fleet.client.get_run(work.run_id)).lease_remaining_ms is None
    assert (await fleet.client.get_runner("broken")).gone_at is not None


async def test_a_runner_that_ends_says_so(fleet: Fleet) -> None:
    work = await fleet.create("once")
    result = await work.go()
    assert (await fleet.client.get_runner(result.runner.id)).gone_at is not None


async def test_an_ended_run_is_not_touched(fleet: Fleet) -> None:
    work = await fleet.create("once")
    await work.go()
    before = await work.events()
    again = await work.go()
    assert (again.terminal_status, again.stopped) == ("completed", "run-ended")
    assert await work.events() == before


async def test_a_run_that_stays_held_is_left_alone(fleet: Fleet) -> None:
    work = await fleet.create("held")
    await fleet.client.register(id="runner_other", runId=work.run_id, attemptId="other")
    await fleet.client.claim(work.run_id, "runner_other", 60_000, "other")
    result = await work.go(claim_retry_timeout_ms=200, claim_retry_interval_ms=50)
    assert (result.terminal_status, result.stopped) == (None, "claim-timeout")


async def test_a_serving_runner_takes_runs_from_the_pool(fleet: Fleet) -> None:
    works = [await fleet.create(f"pool {number}") for number in range(3)]
    options = pool_options(fleet, None, idle_timeout_ms=20)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(options, stop, max_runs=2))
    for work in works:
        await work.until(lambda e: e.payload.get("phase") == "run-released")
        assert (await work.command()).state == "completed"
    stop.set()
    async with asyncio.timeout(10):
        await serving


async def test_a_stopping_pool_finishes_the_turn_at_work_and_starts_no_other(fleet: Fleet) -> None:
    work = await fleet.create("at work")
    queued = await fleet.client.post_command(work.run_id, "turn", {"prompt": "later"})
    options = pool_options(fleet, "slow-tool-events")
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(options, stop))
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    stop.set()
    async with asyncio.timeout(10):
        await serving
    assert (await work.command()).state == "completed"
    assert (await work.command(queued.id)).state == "pending"
    assert (await fleet.client.get_run(work.run_id)).lease_remaining_ms is None


async def test_a_drained_runner_ends_the_turn_at_work_and_then_itself(fleet: Fleet) -> None:
    work = await fleet.create("at work")
    queued = await fleet.client.post_command(work.run_id, "turn", {"prompt": "later"})
    options = pool_options(fleet, "slow-tool-events", runner_id="drained", lease_ms=600)
    serving = asyncio.create_task(serve(options, asyncio.Event()))
    await work.until(lambda e: e.payload.get("phase") == "active-turn-control-ready")
    runner = await fleet.client.drain_runner("drained")
    assert (runner.draining, runner.held_runs) == (True, 1)
    async with asyncio.timeout(10):
        await serving
    assert (await work.command()).state == "completed"
    assert (await work.command(queued.id)).state == "pending"
    [listed] = (await fleet.client.list_runners()).items
    assert (listed.id, listed.draining, listed.held_runs) == ("drained", True, 0)


async def test_an_idle_runner_that_is_drained_ends_at_once(fleet: Fleet) -> None:
    options = RunnerOptions(manager_url=fleet.url, runner_id="idle", env={})
    serving = asyncio.create_task(serve(options, asyncio.Event()))
    async with asyncio.timeout(10):
        while not (await fleet.client.list_runners()).items:
            await asyncio.wait({serving}, timeout=0.02)
        await fleet.client.drain_runner("idle")
        await serving


async def test_a_folder_of_a_newer_attempt_is_not_touched(fleet: Fleet) -> None:
    work = await fleet.create("restored from an old backup")
    folder = Path(fleet.codex_home) / SPOOL_FOLDER
    Spool(folder, work.run_id, 7).close(discard=True)
    result = await work.go()
    assert (result.terminal_status, result.stopped) == (None, "stale-epoch")
    assert (await work.command()).state == "pending"
