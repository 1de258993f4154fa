"""One runner, several app-servers: ours and two releases of codex, through the same code.

The model is the scripted provider. Ours is always tested, the releases by `make test-peers`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.harness import SECRETS, Fleet, Work, errors, is_tool, phase, phases
from support.fake_provider import (
    FakeProvider,
    Step,
    calls,
    created,
    function_call,
    http_error,
    reply,
)
from treadle.runner.manager_types import Event

MODULES = Path(__file__).parents[2] / ".peers/npm/node_modules"
BACKENDS: dict[str, tuple[str, ...]] = {
    "treadle": (sys.executable, "-m", "treadle.cli.main"),
    "codex-0.129.0": (str(MODULES / "codex-0-129-linux-x64"), "codex/codex"),
    "codex-0.169.0": (str(MODULES / "@openai/codex-linux-x64"), "bin/codex"),
}
FREE = {"sandbox": "danger-full-access"}


@dataclass(frozen=True)
class Bench:
    """A backend, the provider behind it and the manager before it."""

    name: str
    argv: tuple[str, ...]
    provider: FakeProvider
    fleet: Fleet

    async def work(self, prompt: str, **more: Any) -> Work:
        policy = {**FREE, **more.pop("policy", {})}
        return await self.fleet.create(prompt, policy=policy, **more)

    async def go(self, work: Work, **more: Any) -> Any:
        command, *arguments = self.argv
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.fleet.tmp)}
        facts: dict[str, Any] = {"codex_command": command, "codex_args": [*arguments, "app-server"]}
        return await work.go(env=env, **facts, **more)

    def shell(self, command: str) -> Step:
        """A call of the shell tool, which all of them have under this name."""
        # On a slow machine a call would yield before its command is done, and the turn end with it.
        arguments = {"cmd": command, "login": False, "yield_time_ms": 30_000}
        return calls(function_call("exec_command", arguments))


@pytest.fixture(params=list(BACKENDS))
async def bench(request: pytest.FixtureRequest, fleet: Fleet) -> AsyncIterator[Bench]:
    name = str(request.param)
    argv = BACKENDS[name]
    if name != "treadle":
        found = next(Path(argv[0]).glob(f"vendor/*/{argv[1]}"), None)
        if found is None or not os.environ.get("TREADLE_TEST_PEERS"):
            pytest.skip(f"{name} is tested by make test-peers (Linux, x86-64)")
        argv = (str(found),)
    async with FakeProvider() as provider:
        (fleet.codex_home / "config.toml").write_text(
            'model = "mock-model"\nmodel_provider = "mock"\n\n[model_providers.mock]\n'
            f'name = "Mock"\nbase_url = "{provider.url}"\nwire_api = "responses"\n'
            "request_max_retries = 0\nstream_max_retries = 0\n"
        )
        yield Bench(name, argv, provider, fleet)


async def test_a_command_runs_and_the_reply_comes_with_its_usage(bench: Bench) -> None:
    bench.provider.script(bench.shell("echo warp"), reply("Woven.", input_tokens=11))
    work = await bench.work("weave")
    result = await bench.go(work)
    events = await work.events()
    assert (result.terminal_status, result.failure_kind) == ("completed", None), errors(events)
    envelope = await work.result()
    assert envelope.reply == "Woven."
    assert envelope.session_ref.thread_id
    assert envelope.usage["totalTokens"] > 0
    assert any(is_tool(event, "commandExecution", "item/started") for event in events)
    assert any(is_tool(event, "commandExecution", "item/completed") for event in events)
    output = "".join(e.payload["text"] for e in events if e.type == "command_output")
    assert "warp" in output
    assert phases(events).count("thread/start:completed") == 1
    assert bench.provider.requests[0].body["model"] == "mock-model"


async def test_an_explicit_model_is_used_and_another_one_is_left_to_the_home(bench: Bench) -> None:
    bench.provider.script(reply("one"), reply("two"))
    work = await bench.work("first")
    turn = {"prompt": "second", "model": "other-model"}
    await bench.fleet.client.post_command(work.run_id, "turn", turn)
    await bench.fleet.client.post_command(work.run_id, "close")
    assert (await bench.go(work, one_shot=False)).terminal_status == "completed"
    models = [r.body["model"] for r in bench.provider.requests if "first" in str(r.body["input"])]
    assert models == ["mock-model", "other-model"]


async def test_another_run_goes_on_with_the_thread_and_a_lost_one_is_never_replaced(
    bench: Bench,
) -> None:
    bench.provider.script(reply("I shall."), reply("Heddle."))
    first = await bench.work("remember the word heddle")
    await bench.go(first)
    thread_id = (await first.result()).session_ref.thread_id
    again = await bench.work("which word?", session_ref={"threadId": thread_id})
    assert (await bench.go(again)).terminal_status == "completed"
    assert "thread/resume:completed" in phases(await again.events())
    assert (await again.result()).usage == (await first.result()).usage
    assert "remember the word heddle" in str(bench.provider.requests[-1].body["input"])
    missing = {"threadId": "00000000-0000-4000-8000-000000000000"}
    lost = await bench.work("which word?", session_ref=missing)
    result = await bench.go(lost)
    assert (result.terminal_status, result.failure_kind) == ("failed", "thread-resume-failed")
    assert not {"thread/start:completed", "thread/resume:completed"} & set(
        phases(await lost.events())
    )


def is_running(event: Event) -> bool:
    return event.payload.get("phase") == "active-turn-control-ready"


async def test_an_interrupt_ends_the_turn_and_the_next_one_runs(bench: Bench) -> None:
    bench.provider.script(Step([created()], hang=True), reply("Next."))
    work = await bench.work("think long")
    running = asyncio.create_task(bench.go(work, one_shot=False))
    await work.until(is_running)
    await bench.provider.wait_requests(1)
    interrupt = await bench.fleet.client.post_command(work.run_id, "interrupt")
    second = await bench.fleet.client.post_command(work.run_id, "turn", {"prompt": "go on"})
    await bench.fleet.client.post_command(work.run_id, "close")
    await running
    assert (await work.command()).state == "cancelled"
    assert (await work.command(interrupt.id)).state == "completed"
    assert (await work.command(second.id)).state == "completed"
    assert "interrupt-escalated" not in phases(await work.events())


@pytest.mark.parametrize("decision", ["accept", "decline"])
async def test_a_question_is_answered_by_command(bench: Bench, decision: str) -> None:
    made = bench.fleet.workspace / "made"
    bench.provider.script(bench.shell(f"touch {made}"), reply("Asked."))
    work = await bench.work("make it", policy={"approval": "untrusted", "sandbox": "read-only"})
    running = asyncio.create_task(bench.go(work))
    event = await work.until(lambda e: e.payload.get("phase") == "server-request-opened")
    assert event.payload["kind"] == "command"
    assert str(made) in event.payload["summary"]
    payload = {"requestId": event.payload["requestId"], "decision": decision}
    await bench.fleet.client.post_command(work.run_id, "answer", payload)
    assert (await running).terminal_status == "completed"
    assert made.exists() is (decision == "accept")
    settled = phase(await work.events(), "server-request-settled")
    assert (settled["decision"], settled["by"]) == (decision, "answer")


@pytest.mark.parametrize("bench", ["treadle"], indirect=True)
async def test_a_question_outlives_its_runner_and_is_carried_out_once(bench: Bench) -> None:
    log = bench.fleet.workspace / "log"
    bench.provider.script(bench.shell(f"echo run >> {log}"), reply("Logged."))
    work = await bench.work("log it", policy={"approval": "untrusted"})
    first = asyncio.create_task(bench.go(work, lease_ms=600))
    await work.until(is_question)
    first.cancel()
    await asyncio.wait({first})
    second = asyncio.create_task(bench.go(work))
    event = await work.until(lambda e: is_question(e) and e.payload["requestId"] == "2-1")
    payload = {"requestId": "2-1", "decision": "accept"}
    await bench.fleet.client.post_command(work.run_id, "answer", payload)
    assert (await second).terminal_status == "completed", errors(await work.events())
    assert event.command_id == work.command_id
    assert log.read_text() == "run\n"
    assert (await work.result()).reply == "Logged."
    assert len(bench.provider.requests) == 2
    events = await work.events()
    assert phase(events, "turn-continued")["epoch"] == 1
    recovered = [e.payload for e in events if e.payload.get("reason") == "recovery"]
    assert recovered == []


@pytest.mark.parametrize("bench", ["treadle"], indirect=True)
async def test_a_turn_left_waiting_is_ended_before_another_one_starts(bench: Bench) -> None:
    log = bench.fleet.workspace / "log"
    bench.provider.script(bench.shell(f"echo run >> {log}"), reply("Something else."))
    work = await bench.work("log it", policy={"approval": "untrusted"})
    first = asyncio.create_task(bench.go(work, lease_ms=600))
    await work.until(is_question)
    first.cancel()
    await asyncio.wait({first})
    await bench.fleet.client.post_command(work.run_id, "interrupt")
    other = await bench.fleet.client.post_command(work.run_id, "turn", {"prompt": "other"})
    assert (await bench.go(work)).terminal_status == "completed"
    assert (await work.command()).state == "cancelled"
    result = await bench.fleet.client.result(work.run_id, other.id)
    assert result.reply == "Something else."
    assert not log.exists()


def is_question(event: Event) -> bool:
    return event.payload.get("phase") == "server-request-opened"


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (http_error(401, "Incorrect API key provided"), "provider-auth-failed"),
        (http_error(429, "Rate limit reached"), "provider-rate-limited"),
        (http_error(500, "It broke"), "provider-http-error"),
    ],
    ids=["401", "429", "500"],
)
async def test_a_providers_refusal_is_classified(bench: Bench, step: Step, kind: str) -> None:
    bench.provider.default = step
    work = await bench.work("fail")
    result = await bench.go(work)
    events = await work.events()
    assert (result.terminal_status, result.failure_kind) == ("failed", kind), errors(events)
    assert SECRETS["codex"] not in repr(events)


async def test_nothing_of_the_backend_outlives_its_run(bench: Bench) -> None:
    bench.provider.script(bench.shell("setsid sleep 611 > /dev/null 2>&1 & echo up"), reply("Up."))
    work = await bench.work("leave something behind")
    assert (await bench.go(work)).terminal_status == "completed"
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if "611" in words(path)]
    assert left == []


def words(cmdline: Path) -> list[str]:
    try:
        return cmdline.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
