"""The crash programme, short (`make test-crash` runs it at length), and whether it can fail."""

import asyncio
import os
import sys
from pathlib import Path

from crash.expected import Model

TESTS = Path(__file__).parents[1]


async def test_a_server_killed_at_its_write_boundaries_loses_nothing_it_told() -> None:
    """In a process of its own, as its schedules fork."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "crash.programme", "--schedules", "8", "--seed", "9001"),
        cwd=TESTS,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(240):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, told.decode()
    assert b"0 of 8 schedules failed" in told


def item(number: int, thread: str = "t") -> dict[str, object]:
    facts = {"thread": thread, "turn": "u", "item": {"type": "agentMessage", "id": f"i{number}"}}
    return {"what": "item", **facts}


def seen(*numbers: int, name: str | None = None) -> dict[str, object]:
    items = [{"type": "agentMessage", "id": f"i{number}"} for number in numbers]
    turns = [{"id": "u", "status": "completed", "items": items}]
    thread = {"turns": turns, "name": name, "gitInfo": None}
    return {"t": {"archived": False, "thread": thread}}


def test_what_is_lost_doubled_or_out_of_order_is_found() -> None:
    model = Model()
    model.take([item(1), item(2), {"what": "turn", "thread": "t", "turn": "u", "status": "failed"}])
    assert model.problems(seen(1, 2)) == ["t: turn u was failed, is completed"]
    model.threads["t"].statuses.clear()
    assert model.problems(seen(1, 2)) == []
    assert model.problems(seen(1, 2, 3)) == [], "what was not heard of may be there"
    assert "lost" in model.problems(seen(2))[0]
    assert "out of order" in model.problems(seen(2, 1))[0]
    assert "twice" in model.problems(seen(1, 2, 2))[0]
    assert model.problems({}) == ["t: gone"]


def test_a_change_without_an_answer_may_have_happened_or_not() -> None:
    model = Model()
    named = {"deed": "name", "thread": "t", "value": "new"}
    model.take([item(1), {"what": "begin", **named}])
    assert model.problems(seen(1)) == model.problems(seen(1, name="new")) == []
    assert model.problems(seen(1, name="other")) != []
    model.take([{"what": "end", **named}])
    assert "name is None" in model.problems(seen(1))[0]
