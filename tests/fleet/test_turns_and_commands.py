"""What clients can do to a run while a runner works on it, and what a rude backend can do."""

import asyncio
import time
from typing import Any

import pytest

from fleet.harness import SECRETS, Fleet, Work, errors, has_source, is_tool, phase, phases
from treadle.runner.manager_types import Event
from treadle.runner.options import InterruptLadder


def is_running(event: Event) -> bool:
    return event.payload.get("phase") == "active-turn-control-ready"


async def states(work: Work) -> list[str]:
    page = await work.fleet.client.commands(work.run_id)
    return [command.state for command in page.items]


async def test_commands_of_one_run_share_a_thread_and_a_backend(fleet: Fleet) -> None:
    work = await fleet.create("first")
    await fleet.client.post_command(work.run_id, "turn", {"prompt": "second"})
    await fleet.client.post_command(work.run_id, "close")
    result = await work.go(one_shot=False)
    assert (result.terminal_status, result.stopped) == ("completed", None)
    assert await states(work) == ["completed", "completed", "completed"]
    events = await work.events()
    replies = [e.payload["text"] for e in events if has_source(e, "completed-agent-message")]
    assert replies == ["fake turn completed: first", "fake turn completed: second"]
    assert phases(events).count("codex-app-server-starting") == 1
    assert phases(events).count("thread/start:completed") == 1


async def test_usage_of_a_command_reaches_its_result(fleet: Fleet) -> None:
    work = await fleet.create("count me")
    await work.go()
    usage = (await work.result()).usage
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (10, 5, 15)


async def test_a_command_that_comes_while_the_runner_waits_is_run(fleet: Fleet) -> None:
    work = await fleet.create("first")
    running = asyncio.create_task(work.go(one_shot=False, idle_timeout_ms=8_000))
    await work.until(lambda e: e.payload.get("phase") == "command-terminal")
    late = await fleet.client.post_command(work.run_id, "turn", {"prompt": "late"})
    await work.until(lambda e: e.command_id == late.id and "command-terminal" in repr(e.payload))
    await fleet.client.post_command(work.run_id, "close")
    assert (await running).terminal_status == "completed"
    assert (await work.command(late.id)).state == "completed"


async def test_an_interrupt_reaches_the_backend_at_once(fleet: Fleet) -> None:
    work = await fleet.create("hang")
    running = asyncio.create_task(work.go("tool-hangs-before-turn-start-response"))
    await work.until(lambda e: is_tool(e, "commandExecution", "item/started"))
    began = time.monotonic()
    await fleet.client.post_command(work.run_id, "interrupt")
    await work.until(lambda e: e.payload.get("phase") == "turn/interrupt:completed")
    assert time.monotonic() - began < 2.0  # of which most is other work on the machine
    assert (await running).terminal_status == "cancelled"


async def test_an_interrupt_while_the_backend_starts_prevents_the_turn(fleet: Fleet) -> None:
    work = await fleet.create("never")
    slow = ("-c", "import time; time.sleep(30)")
    running = asyncio.create_task(work.go(codex_args=slow))
    await work.until(lambda e: e.payload.get("phase") == "codex-app-server-starting")
    interrupt = await fleet.client.post_command(work.run_id, "interrupt")
    assert (await running).terminal_status == "cancelled"
    assert (await work.command(interrupt.id)).state == "completed"
    assert "thread/start:completed" not in phases(await work.events())


async def test_a_backend_that_ignores_an_interrupt_is_stopped_step_by_step(fleet: Fleet) -> None:
    work = await fleet.create("ignore me")
    ladder = InterruptLadder(int_seconds=0.2, term_seconds=0.4, kill_seconds=0.6)
    running = asyncio.create_task(work.go("ignore-interrupt", ladder=ladder))
    await work.until(is_running)
    interrupt = await fleet.client.post_command(work.run_id, "interrupt")
    assert (await running).terminal_status == "cancelled"
    assert (await work.command(interrupt.id)).state == "completed"
    assert phase(await work.events(), "interrupt-escalated")["signal"] == "SIGINT"


async def test_an_interrupt_of_a_queued_turn_leaves_the_running_one_alone(fleet: Fleet) -> None:
    work = await fleet.create("running")
    queued = await fleet.client.post_command(work.run_id, "turn", {"prompt": "queued"})
    running = asyncio.create_task(work.go("slow-tool-events", one_shot=False))
    await work.until(is_running)
    await fleet.client.post_command(work.run_id, "interrupt", {"commandId": queued.id})
    await fleet.client.post_command(work.run_id, "close")
    assert (await running).terminal_status == "completed"
    assert await states(work) == ["completed", "cancelled", "completed", "completed"]


async def test_a_steer_reaches_the_running_turn(fleet: Fleet) -> None:
    work = await fleet.create("running")
    running = asyncio.create_task(work.go("slow-tool-events"))
    await work.until(is_running)
    steer = await fleet.client.post_command(work.run_id, "steer", {"prompt": "left"})
    assert (await running).terminal_status == "completed"
    assert (await work.command(steer.id)).state == "completed"
    assert any(e.payload.get("text") == "steered: left" for e in await work.events())


async def test_cancelling_a_run_ends_it_and_all_its_commands(fleet: Fleet) -> None:
    work = await fleet.create("running")
    await fleet.client.post_command(work.run_id, "turn", {"prompt": "queued"})
    running = asyncio.create_task(work.go("missing-terminal", one_shot=False))
    await work.until(is_running)
    await fleet.client.post_command(work.run_id, "cancel")
    result = await running
    assert (result.terminal_status, result.failure_kind) == ("cancelled", "cancelled")
    assert await states(work) == ["cancelled", "cancelled", "completed"]
    assert (await fleet.client.get_run(work.run_id)).status == "cancelled"


async def test_an_unattended_approval_is_declined_and_recorded(fleet: Fleet) -> None:
    work = await fleet.create("may I")
    assert (await work.go("approval-request")).terminal_status == "completed"
    assert (await work.result()).reply == "decision: decline"
    settled = phase(await work.events(), "server-request-settled")
    assert settled["method"] == "item/commandExecution/requestApproval"
    assert (settled["decision"], settled["by"]) == ("decline", "policy")


async def test_a_backend_that_dies_in_a_turn_fails_it_with_its_last_words(fleet: Fleet) -> None:
    work = await fleet.create("die")
    result = await work.go("crash")
    assert (result.terminal_status, result.failure_kind) == ("failed", "runner-crashed")
    [told] = errors(await work.events())
    assert "exited with 70: fatal: the fake was told to crash" in told["message"]


async def test_a_backend_that_says_nothing_at_all_is_given_up(fleet: Fleet) -> None:
    work = await fleet.create("silence", timeout_ms=300)
    assert (await work.go("silence")).failure_kind == "backend-timeout"


async def test_a_backend_that_does_not_even_greet_is_given_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("treadle.runner.session.START_SECONDS", 0.3)
    work = await fleet.create("no greeting")
    result = await work.go(codex_args=("-c", "import time; time.sleep(600)"))
    assert (result.terminal_status, result.failure_kind) == ("failed", "backend-timeout")
    [told] = errors(await work.events())
    assert "initialize was not answered" in told["message"]


async def test_a_line_beyond_the_bound_fails_the_turn(fleet: Fleet) -> None:
    work = await fleet.create("long")
    assert (await work.go("huge-line")).failure_kind == "backend-json-parse-error"


async def test_flooded_standard_error_does_not_stop_a_turn(fleet: Fleet) -> None:
    work = await fleet.create("noise")
    assert (await work.go("stderr-flood")).terminal_status == "completed"


async def test_a_flood_arrives_whole_and_in_order(fleet: Fleet) -> None:
    work = await fleet.create("flood")
    assert (await work.go("flood")).terminal_status == "completed"
    output = [e.payload["text"] for e in await work.events() if e.type == "command_output"]
    assert "".join(output) == "".join(f"line {n:06d}\n" for n in range(2000))


async def test_a_secret_said_in_pieces_reaches_no_event(fleet: Fleet) -> None:
    work = await fleet.create(f"tell {SECRETS['codex']} please")
    assert (await work.go("echo-prompt")).terminal_status == "completed"
    events = [e for e in await work.events() if e.type != "backend_status"]
    text = "".join(e.payload["text"] for e in events if e.type == "command_output")
    assert text == "tell [redacted] please"
    longest = max((len(p) for p in pieces(SECRETS["codex"]) if p in repr(events)), default=0)
    assert longest < 8


def pieces(secret: str) -> list[str]:
    """All parts of a secret that are long enough to matter."""
    sizes = range(8, len(secret) + 1)
    return [secret[at : at + size] for size in sizes for at in range(len(secret) - size + 1)]


async def test_private_settings_do_not_reach_the_backend(fleet: Fleet) -> None:
    work = await fleet.create("env")
    show = "import os,sys; sys.stderr.write(','.join(sorted(os.environ)))"
    env = {"TREADLE_API_TOKEN": "canary-token-value", "KEPT": "1"}
    result = await work.go(codex_args=("-c", show), env=env)
    assert result.failure_kind == "backend-spawn-failed"
    [told] = errors(await work.events())
    assert "KEPT" in told["message"]
    assert "TREADLE_API_TOKEN" not in told["message"]


async def test_another_profile_than_the_runs_is_refused(fleet: Fleet) -> None:
    work = await fleet.create("profile")
    result: Any = await work.go(backend_profile="deepseek")
    assert (result.terminal_status, result.failure_kind) == ("blocked", "secret-unavailable")


async def test_an_interrupt_that_comes_after_the_turn_hits_no_later_turn(fleet: Fleet) -> None:
    work = await fleet.create("over")
    running = asyncio.create_task(work.go("provider-503-rpc-error", one_shot=False))
    await work.until(lambda e: e.type == "error")
    late = await fleet.client.post_command(work.run_id, "interrupt")
    second = await fleet.client.post_command(work.run_id, "turn", {"prompt": "again"})
    await fleet.client.post_command(work.run_id, "close")
    await running
    assert (await work.command(late.id)).state in {"rejected", "completed"}
    assert (await work.command(second.id)).failure_kind == "provider-stream-disconnected"
