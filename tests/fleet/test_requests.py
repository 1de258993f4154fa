"""Questions of the agent: seen as events, answered by command, settled by the run's policy."""

import asyncio
import json
from typing import Any

from fleet.harness import Fleet, Work, phases
from treadle.runner.manager_types import Command, Event
from treadle.testing.fake_scripts import REQUESTS

ATTENDED = {"approval": "on-request"}
COMMAND = "item/commandExecution/requestApproval"


def opened(event: Event) -> bool:
    return event.payload.get("phase") == "server-request-opened"


def settled(events: list[Event]) -> list[dict[str, Any]]:
    return [e.payload for e in events if e.payload.get("phase") == "server-request-settled"]


async def answer(work: Work, request_id: str, decision: str, content: Any = None) -> Command:
    payload = {"requestId": request_id, "decision": decision, "content": content}
    return await work.fleet.client.post_command(work.run_id, "answer", payload)


async def start(fleet: Fleet, mode: str, **more: Any) -> tuple[Work, asyncio.Task[Any], str]:
    """A run whose agent asks; the id of its question."""
    work = await fleet.create("may I", policy=ATTENDED)
    running = asyncio.create_task(work.go(mode, **more))
    event = await work.until(opened)
    return work, running, str(event.payload["requestId"])


async def test_an_open_question_shows_in_the_run_and_an_answer_settles_it(fleet: Fleet) -> None:
    work, running, request_id = await start(fleet, "approval-request")
    run = await fleet.client.get_run(work.run_id)
    assert run.status == "needs-input"
    [pending] = run.pending_requests
    assert (pending.id, pending.kind, pending.summary) == (request_id, "command", "rm -rf build")
    assert pending.command_id == work.command_id
    assert pending.decisions == ["accept", "acceptForSession", "decline", "cancel"]
    assert [each.id for each in (await fleet.client.list_runs(status="needs-input")).items] == [
        work.run_id
    ]
    command = await answer(work, request_id, "accept")
    assert (await running).terminal_status == "completed"
    assert (await work.result()).reply == "decision: accept"
    assert (await work.command(command.id)).state == "completed"
    [told] = settled(await work.events())
    assert (told["requestId"], told["decision"], told["by"]) == (request_id, "accept", "answer")
    assert told["answerCommandId"] == command.id
    assert (await fleet.client.get_run(work.run_id)).pending_requests == []
    assert await fleet.client.verify_run(work.run_id) == []


async def test_a_second_answer_is_rejected_and_a_repeated_one_has_one_effect(fleet: Fleet) -> None:
    work, running, request_id = await start(fleet, "approval-request", one_shot=False)
    payload = {"requestId": request_id, "decision": "decline"}
    posts = (
        fleet.client.post_command(work.run_id, "answer", payload, idempotency_key="once")
        for _ in range(3)
    )
    same = await asyncio.gather(*posts)
    assert len({each.id for each in same}) == 1
    await work.until(
        lambda e: (
            e.payload.get("phase") == "command-terminal"
            and same[0].id in {e.command_id, e.payload.get("commandId")}
        )
    )
    late = await answer(work, request_id, "accept")
    await fleet.client.post_command(work.run_id, "close")
    assert (await running).terminal_status == "completed"
    assert (await work.result()).reply == "decision: decline"
    assert (await work.command(same[0].id)).state == "completed"
    late = await work.command(late.id)
    assert late.state == "rejected"
    assert late.failure_message.startswith("request-not-open: ")
    assert len(settled(await work.events())) == 1


async def test_an_answer_that_is_none_is_rejected_and_the_question_stays_open(
    fleet: Fleet,
) -> None:
    work, running, request_id = await start(fleet, "approval-request")
    unknown = await answer(work, "9-9", "accept")
    assert unknown.state == "rejected"
    assert (unknown.failure_message or "").startswith("request-not-open: ")
    other = await answer(work, request_id, "maybe")
    assert other.state == "rejected"
    assert (other.failure_message or "").startswith("decision-not-offered: ")
    await answer(work, request_id, "cancel")
    assert (await running).terminal_status == "completed"
    assert (await work.result()).reply == "decision: cancel"


async def test_each_kind_of_question_can_be_answered(fleet: Fleet) -> None:
    work = await fleet.create("ask all", policy=ATTENDED)
    running = asyncio.create_task(work.go("every-request"))
    contents: dict[str, Any] = {
        "item/tool/requestUserInput": {"colour": ["blue"]},
        "mcpServer/elicitation/request": {"width": 4},
        "item/tool/call": {"contentItems": [{"type": "inputText", "text": "woven"}]},
    }
    seen: set[str] = set()
    while len(seen) < len(REQUESTS) - 2:
        event = await work.until(lambda e: opened(e) and e.payload["method"] not in seen)
        method = str(event.payload["method"])
        seen.add(method)
        if method in contents:
            early = await answer(work, event.payload["requestId"], "accept")
            await work.until(lambda e, early=early: e.command_id == early.id and is_terminal(e))
            assert (await work.command(early.id)).failure_message.startswith("content-invalid: ")
        await answer(work, event.payload["requestId"], "accept", contents.get(method))
    assert (await running).terminal_status == "completed"
    replies = json.loads((await work.result()).reply)
    assert replies[COMMAND] == {"decision": "accept"}
    assert replies["item/tool/requestUserInput"] == {"answers": {"colour": {"answers": ["blue"]}}}
    assert replies["mcpServer/elicitation/request"]["content"] == {"width": 4}
    assert replies["item/tool/call"]["success"] is True
    assert replies["execCommandApproval"] == {"decision": "approved"}
    assert "currentTimeAt" in replies["currentTime/read"]
    assert "attestation/generate" in replies["attestation/generate"]["message"]


def is_terminal(event: Event) -> bool:
    return event.payload.get("phase") == "command-terminal"


async def test_an_unattended_run_settles_every_kind_at_once_and_says_so(fleet: Fleet) -> None:
    work = await fleet.create("ask all")
    assert (await work.go("every-request")).terminal_status == "completed"
    events = await work.events()
    assert "server-request-opened" not in phases(events)
    told = {each["method"]: (each["decision"], each["by"]) for each in settled(events)}
    assert set(told) == set(REQUESTS)
    assert told[COMMAND] == ("decline", "policy")
    assert told["currentTime/read"] == ("answered", "runner")
    assert told["attestation/generate"] == ("refused", "runner")
    assert {by for _, by in told.values()} == {"policy", "runner"}


async def test_the_runs_policy_may_accept_what_nobody_answers(fleet: Fleet) -> None:
    work = await fleet.create("may I", policy={"answerDefault": "accept"})
    assert (await work.go("approval-request")).terminal_status == "completed"
    assert (await work.result()).reply == "decision: accept"


async def test_a_question_outlives_the_idle_deadline_and_ends_by_its_own(fleet: Fleet) -> None:
    policy = {**ATTENDED, "answerTimeoutMs": 900, "timeoutMs": 200}
    work = await fleet.create("may I", policy=policy)
    assert (await work.go("approval-request")).terminal_status == "completed"
    [told] = settled(await work.events())
    assert (told["decision"], told["by"]) == ("decline", "deadline")


async def test_what_is_asked_before_any_turn_is_declined_at_once(fleet: Fleet) -> None:
    work = await fleet.create("hello", policy=ATTENDED)
    async with asyncio.timeout(10):  # the greeting alone may take longer
        assert (await work.go("asks-at-start")).terminal_status == "completed"


async def test_an_interrupt_withdraws_the_question(fleet: Fleet) -> None:
    work, running, request_id = await start(fleet, "approval-request")
    await fleet.client.post_command(work.run_id, "interrupt")
    assert (await running).terminal_status == "cancelled"
    [told] = settled(await work.events())
    assert (told["requestId"], told["decision"], told["by"]) == (
        request_id,
        "withdrawn",
        "turn-end",
    )


async def test_what_the_backend_settles_itself_is_closed(fleet: Fleet) -> None:
    work, running, _ = await start(fleet, "withdrawn-request")
    assert (await running).terminal_status == "completed"
    [told] = settled(await work.events())
    assert (told["decision"], told["by"]) == ("withdrawn", "backend")


async def test_a_takeover_asks_again_under_another_id(fleet: Fleet) -> None:
    work, running, first = await start(fleet, "approval-request")
    running.cancel()
    await asyncio.wait({running})
    run = await fleet.client.get_run(work.run_id)
    assert (run.pending_requests, run.status) == ([], "pending")
    stale = await answer(work, first, "accept")
    assert stale.state == "rejected"
    again = asyncio.create_task(work.go("approval-request"))
    event = await work.until(lambda e: opened(e) and e.payload["requestId"] != first)
    await answer(work, event.payload["requestId"], "accept")
    assert (await again).terminal_status == "completed"
    assert (await work.result()).reply == "decision: accept"
