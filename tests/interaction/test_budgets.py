"""Budgets: a looping model stops at the limit, alone and with sub-agents, and after a kill."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import Step, calls, created, function_call, http_error, reply

PLAN = {"plan": [{"step": "go round", "status": "pending"}]}


def loop(**usage: Any) -> Step:
    """An answer that always wants another exchange."""
    return calls(function_call("update_plan", PLAN, "round"), **usage)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "memory") as lab:
        lab.provider.default = loop()
        yield lab


async def start(lab: AppLab, client: LabClient, **budget: Any) -> str:
    return await lab.start_thread(client, budget=budget)


def told(done: dict[str, Any]) -> str:
    """What a turn that ran out of budget says; it must have."""
    assert done["status"] == "failed"
    assert done["error"]["codexErrorInfo"] == "usageLimitExceeded"
    assert done["error"]["additionalDetails"].startswith("budget-exhausted: ")
    return done["error"]["additionalDetails"].removeprefix("budget-exhausted: ")


async def spent(client: LabClient, thread_id: str) -> dict[str, Any]:
    read = await client.request("thread/read", {"threadId": thread_id})
    return read["thread"]["extra"]["budget"]["spent"]


async def test_model_calls_stop_at_the_limit_and_go_on_when_it_is_raised(lab: AppLab):
    client = await lab.connect(experimental=True)
    thread_id = await start(lab, client, modelCalls=4)
    assert told(await lab.run_turn(client, thread_id)) == "modelCalls 4 of 4"
    assert len(lab.provider.requests) == 4
    assert told(await lab.run_turn(client, thread_id)) == "modelCalls 4 of 4"
    assert len(lab.provider.requests) == 4
    lab.provider.script(loop(), reply())
    await client.request("turn/start", turn(thread_id, budget={"modelCalls": 6}))
    done = (await client.until("turn/completed"))["turn"]
    assert done["status"] == "completed"
    assert len(lab.provider.requests) == 6
    read = await client.request("thread/read", {"threadId": thread_id, "includeTurns": True})
    turns = read["thread"]["turns"]
    assert [each["status"] for each in turns] == ["failed", "failed", "completed"]
    assert read["thread"]["extra"]["budget"]["limits"] == {
        "tokens": None,
        "modelCalls": 6,
        "toolCalls": None,
        "wallClockSeconds": None,
        "children": None,
    }


async def test_tokens_stop_within_one_call_of_the_limit(lab: AppLab):
    client = await lab.connect(experimental=True)
    lab.provider.default = loop(input_tokens=2_000, output_tokens=500)
    thread_id = await start(lab, client, tokens=10_000)
    assert told(await lab.run_turn(client, thread_id)) == "tokens 10000 of 10000"
    assert len(lab.provider.requests) == 4
    used = await spent(client, thread_id)
    assert (used["tokens"], used["modelCalls"]) == (10_000, 4)


async def test_a_tool_call_too_many_is_not_made_and_ends_the_turn(lab: AppLab):
    client = await lab.connect(experimental=True)
    thread_id = await start(lab, client, toolCalls=2)
    lab.provider.script(
        *(calls(function_call("exec_command", {"cmd": f"touch {n}"}, f"c{n}")) for n in "abc")
    )
    assert told(await lab.run_turn(client, thread_id)) == "toolCalls 2 of 2"
    assert sorted(path.name for path in lab.work.iterdir()) == ["a", "b"]
    assert len(lab.provider.requests) == 3
    lab.provider.script(reply())
    await client.request("turn/start", turn(thread_id, budget={"toolCalls": None}))
    assert (await client.until("turn/completed"))["turn"]["status"] == "completed"
    history = json.dumps(lab.provider.requests[-1].body["input"])
    assert "not run: the budget of 2 tool calls is used up" in history


async def test_time_runs_out_in_the_middle_of_a_call(lab: AppLab):
    client = await lab.connect(experimental=True)
    thread_id = await start(lab, client, wallClockSeconds=1)
    lab.provider.default = Step([created()], hang=True)
    done = await lab.run_turn(client, thread_id)
    assert told(done) == "wallClockSeconds 1 of 1"
    assert 900 <= (await spent(client, thread_id))["wallClockMs"] < 5_000
    lab.provider.default = reply()
    await client.request("turn/start", turn(thread_id, budget={"wallClockSeconds": 60}))
    assert (await client.until("turn/completed"))["turn"]["status"] == "completed"


async def test_retries_count_as_calls(tmp_path: Path):
    async with AppLab(tmp_path, "memory", retries=3) as lab:
        client = await lab.connect(experimental=True)
        lab.provider.default = http_error(500)
        thread_id = await start(lab, client, modelCalls=3)
        assert told(await lab.run_turn(client, thread_id)) == "modelCalls 3 of 3"
        assert len(lab.provider.requests) == 3
        assert (await spent(client, thread_id))["tokens"] == 0


async def test_the_configuration_can_set_limits(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        config = lab.home / "config.toml"
        config.write_text(config.read_text() + "[budget]\nmodel_calls = 2\n")
        lab.provider.default = loop()
        client = await lab.connect(experimental=True)
        thread_id = await lab.start_thread(client)
        assert told(await lab.run_turn(client, thread_id)) == "modelCalls 2 of 2"
        other = await start(lab, client, modelCalls=1)
        assert told(await lab.run_turn(client, other)) == "modelCalls 1 of 1"


async def test_sub_agents_share_the_pool_and_are_counted(lab: AppLab):
    client = await lab.connect(experimental=True)
    lab.provider.script_agents()
    thread_id = await start(lab, client, modelCalls=20, children=5)
    spawns = [function_call("spawn_agent", {"message": "go"}, f"s{n}") for n in range(6)]
    lab.provider.script(calls(*spawns))
    ended: dict[str, dict[str, Any]] = {}
    await client.request("turn/start", turn(thread_id))
    while len(ended) < 6:
        done = await client.until("turn/completed")
        ended[done["threadId"]] = done["turn"]
    assert {told(done) for done in ended.values()} == {"modelCalls 20 of 20"}
    assert len(lab.provider.requests) == 20
    refused = [
        entry["output"]
        for request in lab.provider.requests
        for entry in request.body["input"]
        if entry.get("type") == "function_call_output" and "used up" in entry["output"]
    ]
    assert set(refused) == {"collab spawn failed: the budget of 5 sub-agents is used up"}
    used = await spent(client, thread_id)
    assert (used["modelCalls"], used["children"]) == (20, 5)


async def test_parallel_calls_stay_within_one_call_of_a_token_limit(lab: AppLab):
    client = await lab.connect(experimental=True)
    lab.provider.default = loop(input_tokens=4_000, output_tokens=1_000)
    lab.provider.script_agents()
    thread_id = await start(lab, client, tokens=60_000)
    spawns = [function_call("spawn_agent", {"message": "go"}, f"s{n}") for n in range(5)]
    lab.provider.script(calls(*spawns, input_tokens=4_000, output_tokens=1_000))
    await client.request("turn/start", turn(thread_id))
    for _ in range(6):
        assert told((await client.until("turn/completed"))["turn"]).startswith("tokens ")
    used = await spent(client, thread_id)
    assert used["tokens"] == 5_000 * len(lab.provider.requests)
    assert 60_000 <= used["tokens"] <= 65_000


async def test_a_kill_resets_nothing(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        lab.provider.default = loop()
        client = await lab.connect(experimental=True)
        thread_id = await start(lab, client, modelCalls=6)
        lab.provider.script(loop(), loop(), Step([created()], hang=True))
        await client.request("turn/start", turn(thread_id))
        await lab.provider.wait_requests(3)
        lab.kill()

        again = await lab.connect(experimental=True)
        await again.request("thread/resume", {"threadId": thread_id})
        assert told(await lab.run_turn(again, thread_id)) == "modelCalls 6 of 6"
        assert len(lab.provider.requests) == 6


async def test_an_agent_resumed_alone_still_spends_its_parents_budget(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect(experimental=True)
        thread_id = await start(lab, client, modelCalls=5)
        lab.provider.script_agents(reply())
        lab.provider.script(calls(function_call("spawn_agent", {"message": "go"}, "s")), reply())
        await client.request("turn/start", turn(thread_id))
        ended = {(await client.until("turn/completed"))["threadId"] for _ in range(2)}
        [agent_id] = ended - {thread_id}
        lab.kill()

        again = await lab.connect(experimental=True)
        lab.provider.default = loop()
        before = len(lab.provider.requests)
        await again.request("thread/resume", {"threadId": agent_id})
        assert told(await lab.run_turn(again, agent_id)) == "modelCalls 5 of 5"
        assert len(lab.provider.requests) == before + 2


async def test_turns_taken_back_stay_paid(lab: AppLab):
    client = await lab.connect(experimental=True)
    lab.provider.script(reply(), reply())
    thread_id = await start(lab, client, modelCalls=3)
    for _ in range(2):
        await lab.run_turn(client, thread_id)
    await client.request("thread/rollback", {"threadId": thread_id, "numTurns": 2})
    assert told(await lab.run_turn(client, thread_id)) == "modelCalls 3 of 3"
    assert len(lab.provider.requests) == 3


async def test_a_budget_needs_the_experimental_opt_in(lab: AppLab):
    client = await lab.connect()
    with pytest.raises(Exception, match=r"thread/start\.budget requires"):
        await start(lab, client, modelCalls=1)
