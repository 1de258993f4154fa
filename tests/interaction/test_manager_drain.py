"""A manager that stops under load, old logs, and readers that do not read."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.control_lab import ControlLab, control_lab
from treadle.control.http.server import ManagerOptions, serve
from treadle.kit.clock import ManualClock

LINE = {"type": "command_output", "payload": {"text": "x" * 100}}


async def keep_appending(lab: ControlLab, claim: Any, acknowledged: dict[str, int]) -> None:
    """Append one event after the other until the manager takes no more."""
    for first in itertools.count(1):
        try:
            answer = await lab.append(claim, first, LINE)
        except httpx.TransportError:
            return
        if answer.status_code == 503:
            return
        assert answer.status_code == 200, answer.text
        acknowledged[claim["runId"]] = answer.json()["ackedProducerSeq"]


async def follow(http: httpx.AsyncClient, run_id: str) -> str:
    """All that a stream says until it ends."""
    async with http.stream("GET", f"/api/v1/runs/{run_id}/stream") as stream:
        return "".join([text async for text in stream.aiter_text()])


async def test_a_stop_under_load_goes_unready_first_and_loses_no_acknowledged_event(
    tmp_path: Path,
) -> None:
    manager = await serve(ManagerOptions(data_folder=tmp_path, drain_seconds=0.5))
    acknowledged: dict[str, int] = {}
    async with httpx.AsyncClient(base_url=manager.address, timeout=10) as http:
        lab = ControlLab(manager, http)
        runs = [(await lab.run_with_turn())[0] for _ in range(4)]
        claims = [await lab.claim(run_id) for run_id in runs]

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            following = group.create_task(follow(http, runs[0]))
            parked = group.create_task(
                http.get(f"/api/v1/runs/{runs[1]}/commands?afterSeq=9&waitMs=20000")
            )
            for claim in claims:
                group.create_task(keep_appending(lab, claim, acknowledged))
            while len(acknowledged) < len(claims):
                await asyncio.sleep(0.01)
            assert (await http.get("/health/ready")).status_code == 200
            stopping = group.create_task(manager.stop())
            while (await http.get("/health/ready")).status_code == 200:
                await asyncio.sleep(0.01)
            before = dict(acknowledged)
            while acknowledged == before:  # unready, and still at work
                await asyncio.sleep(0.01)
            assert not stopping.done()
        assert parked.result().json()["items"] == []
        assert "event: end" not in following.result()
        assert following.result().endswith("\n\n")
    async with control_lab(tmp_path) as again:
        for claim in claims:
            page = await again.manager.repository.read_events(claim["runId"], 0, 100_000)
            stored = [event.producer_seq for event in page.items if event.producer_seq]
            assert stored == list(range(1, len(stored) + 1))
            assert len(stored) >= acknowledged[claim["runId"]]
            assert await again.manager.repository.verify_run(claim["runId"]) == []


@pytest.mark.parametrize("how", ["events", "stream", "stream-by-header"])
async def test_a_reader_below_the_floor_is_told_where_the_log_begins(
    tmp_path: Path, how: str
) -> None:
    clock = ManualClock()
    async with control_lab(tmp_path, clock=clock) as lab:
        run_id, _ = await lab.run_with_turn()
        await lab.post(f"/api/v1/runs/{run_id}/commands", {"type": "cancel"})
        clock.advance(10)
        assert await lab.manager.repository.drop_old_events(5000, 2) == 2
        path = f"/api/v1/runs/{run_id}/{'events' if how == 'events' else 'stream'}"
        headers = {"Last-Event-ID": "1"} if how == "stream-by-header" else {}
        answer = await lab.http.get(path, headers=headers)
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["minSeq"]) == (410, "events-gone", 3)
        answer = await lab.http.get(path, params={"afterSeq": problem["minSeq"] - 1})
        assert answer.status_code == 200


async def test_a_reader_that_does_not_read_is_not_read_for(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        run_id, _ = await lab.run_with_turn()
        claim = await lab.claim(run_id)
        reader, writer = await asyncio.open_connection(
            *lab.manager.address.removeprefix("http://").split(":"), limit=1024
        )
        host = "Host: 127.0.0.1\r\n\r\n"
        writer.write(f"GET /api/v1/runs/{run_id}/stream HTTP/1.1\r\n{host}".encode())
        await reader.readuntil(b"\r\n")
        big = {"type": "command_output", "payload": {"text": "x" * 200_000}}
        for first in range(1, 151, 5):  # 30 MB, in all
            assert (await lab.append(claim, first, *[big] * 5)).status_code == 200
        metrics = (await lab.http.get("/metrics")).text
        [line] = [x for x in metrics.splitlines() if x.startswith("treadle_stream_lag_events ")]
        assert float(line.split()[1]) > 75, "the manager holds what its reader has not taken"
        writer.close()
