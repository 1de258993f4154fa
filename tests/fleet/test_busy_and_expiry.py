"""A turn that comes while another runs, a turn that nobody takes up, and an interrupt's ladder."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from fleet.harness import Fleet, Work, errors, has_source, phase, phases
from treadle.runner.manager_client import ManagerError
from treadle.runner.manager_types import Command, Event
from treadle.runner.options import InterruptLadder

TAKEN = "command-acknowledged"


def is_running(event: Event) -> bool:
    return event.payload.get("phase") == "active-turn-control-ready"


async def turn(work: Work, prompt: str, **more: Any) -> Command:
    return await work.fleet.client.post_command(work.run_id, "turn", {"prompt": prompt}, **more)


async def close(work: Work) -> None:
    await work.fleet.client.post_command(work.run_id, "close")


async def replies(work: Work) -> list[str]:
    events = await work.events()
    return [e.payload["text"] for e in events if has_source(e, "completed-agent-message")]


async def begin(fleet: Fleet, busy_policy: str, mode: str) -> tuple[Work, asyncio.Task[Any]]:
    work = await fleet.create("first", busy_policy=busy_policy)
    running = asyncio.create_task(work.go(mode, one_shot=False))
    await work.until(is_running)
    return work, running


async def test_enqueue_runs_turns_one_after_another(fleet: Fleet) -> None:
    work, running = await begin(fleet, "enqueue", "slow-tool-events")
    second = await turn(work, "second")
    await close(work)
    assert (await running).terminal_status == "completed"
    assert (await work.command()).state == (await work.command(second.id)).state == "completed"
    assert await replies(work) == ["live tool done", "live tool done"]


async def test_reject_refuses_a_second_turn_until_the_first_is_over(fleet: Fleet) -> None:
    work, running = await begin(fleet, "reject", "slow-tool-events")
    with pytest.raises(ManagerError) as refused:
        await turn(work, "second")
    assert refused.value.code == "run-busy"
    await work.until(lambda e: e.payload.get("phase") == "command-terminal")
    again = await turn(work, "third")
    await close(work)
    await running
    assert (await work.command(again.id)).state == "completed"


async def test_interrupt_puts_the_newest_turn_in_the_place_of_all_others(fleet: Fleet) -> None:
    work, running = await begin(fleet, "interrupt", "tool-hangs-before-turn-start-response")
    older = await turn(work, "second")
    newest = await turn(work, "third")
    await work.until(lambda e: is_running(e) and e.command_id == newest.id)
    await fleet.client.post_command(work.run_id, "cancel")
    await running
    first = await work.command()
    assert (first.state, first.failure_kind) == ("superseded", "superseded")
    assert (await work.command(older.id)).state == "superseded"
    commands = (await fleet.client.commands(work.run_id)).items
    assert [c.state for c in commands if c.type == "interrupt"] == ["completed", "completed"]
    assert await fleet.client.verify_run(work.run_id) == []


async def test_interrupt_needs_no_runner_for_turns_that_none_has(fleet: Fleet) -> None:
    work = await fleet.create("first", busy_policy="interrupt")
    newest = await turn(work, "second")
    assert (await work.command()).state == "superseded"
    await close(work)
    assert (await work.go(one_shot=False)).terminal_status == "completed"
    assert (await work.command(newest.id)).state == "completed"
    assert await replies(work) == ["fake turn completed: second"]


async def test_steer_gives_the_words_to_the_turn_at_work(fleet: Fleet) -> None:
    work, running = await begin(fleet, "steer", "slow-tool-events")
    words = await turn(work, "left")
    assert words.target_command_id == work.command_id
    await close(work)
    assert (await running).terminal_status == "completed"
    assert (await work.command(words.id)).state == "completed"
    assert await replies(work) == ["steered: left", "live tool done"]


async def test_words_that_cannot_steer_any_more_are_the_next_turn(fleet: Fleet) -> None:
    work, running = await begin(fleet, "steer", "refuse-steer")
    words = [await turn(work, name) for name in ("second", "third")]
    await close(work)
    assert (await running).terminal_status == "completed"
    assert [(await work.command(each.id)).state for each in words] == ["completed"] * 2
    assert await replies(work) == ["heard: first", "heard: second", "heard: third"]
    taken = [e.command_id for e in await work.events() if e.payload.get("phase") == TAKEN]
    assert [taken.count(each.id) for each in words] == [1, 1]


async def test_a_turn_that_nobody_takes_up_in_time_expires(fleet: Fleet) -> None:
    work = await fleet.create("first")
    late = await turn(work, "late", expires_in_ms=1)
    assert late.expires_at is not None
    await work.until(lambda e: e.command_id == late.id and "expired" in repr(e.payload))
    late = await work.command(late.id)
    assert (late.state, late.terminal_status) == ("expired", "failed")
    await close(work)
    assert (await work.go(one_shot=False)).terminal_status == "completed"
    assert await replies(work) == ["fake turn completed: first"]
    with pytest.raises(ManagerError, match="Only a turn can expire"):
        await fleet.client.post_command(work.run_id, "close", expires_in_ms=1_000)


async def test_a_turn_that_expires_behind_another_is_not_run(fleet: Fleet) -> None:
    work, running = await begin(fleet, "enqueue", "slow-tool-events")
    late = await turn(work, "late", expires_in_ms=50)
    kept = await turn(work, "kept", expires_in_ms=60_000)
    await close(work)
    assert (await running).terminal_status == "completed"
    assert (await work.command(late.id)).state == "expired"
    assert (await work.command(kept.id)).state == "completed"
    assert len(await replies(work)) == 2


async def test_a_run_without_a_runner_is_closed_at_once_when_nothing_is_open(fleet: Fleet) -> None:
    work = await fleet.create("first")
    await fleet.client.post_command(work.run_id, "interrupt")
    closing = await fleet.client.post_command(work.run_id, "close")
    assert closing.state == "completed"
    assert (await fleet.client.get_run(work.run_id)).terminal_status == "completed"


async def test_a_deaf_backend_is_driven_out_rung_by_rung_with_all_it_started(fleet: Fleet) -> None:
    work = await fleet.create("deaf")
    ladder = InterruptLadder(int_seconds=0.2, term_seconds=0.4, kill_seconds=0.6)
    running = asyncio.create_task(work.go("ignore-signals", ladder=ladder))
    child = await work.until(lambda e: has_source(e, "completed-agent-message"))
    pid = int(str(child.payload["text"]).split()[-1])
    interrupt = await fleet.client.post_command(work.run_id, "interrupt")
    again = await fleet.client.post_command(work.run_id, "interrupt")
    assert (await fleet.client.get_run(work.run_id)).status == "interrupting"
    assert (await running).terminal_status == "cancelled"
    events = await work.events()
    rungs = [e.payload for e in events if e.payload.get("phase") == "interrupt-escalated"]
    told = [(rung["signal"], rung["afterMs"]) for rung in rungs]
    assert told == [("SIGINT", 200), ("SIGTERM", 400), ("SIGKILL", 600)]
    assert {(await work.command(each.id)).state for each in (interrupt, again)} == {"completed"}
    assert (await work.command()).failure_kind == "cancelled"
    assert errors(events) == []
    assert phase(events, "backend-turn-finished")["terminalStatus"] == "cancelled"
    assert not lives(pid)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_an_interrupt_under_way_shows_until_the_turn_is_over(fleet: Fleet) -> None:
    work = await fleet.create("hang")
    running = asyncio.create_task(work.go("ignore-interrupt", one_shot=False, idle_timeout_ms=50))
    await work.until(is_running)
    await fleet.client.post_command(work.run_id, "interrupt")
    assert (await fleet.client.get_run(work.run_id)).status == "interrupting"
    running.cancel()
    await asyncio.wait({running})
    assert "run-released" in phases(await work.events())
