"""A manager that is killed loses nothing it acknowledged, and goes on where it was."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from treadle.control.http.server import ManagerOptions, serve

ROOT = Path(__file__).parents[2]
APPENDERS = 4
ACKNOWLEDGED_BEFORE_KILL = 60


async def start_process(folder: Path, *database_url: str) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests/support/manager_process.py"),
        str(folder),
        *database_url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert process.stdout is not None
    async with asyncio.timeout(15):
        address = (await process.stdout.readline()).decode().strip()
    return process, address


class Writer:
    """A runner of one run that appends until the manager is gone."""

    def __init__(self, http: httpx.AsyncClient, name: str) -> None:
        self.http = http
        self.name = name
        self.acknowledged = 0
        self.sent = 0
        self.claim: dict[str, Any] = {}

    async def post(self, path: str, body: Any, token: str = "none") -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self.http.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def prepare(self) -> None:
        run = await self.post("/api/v1/runs", {})
        await self.post("/api/v1/runners/register", {"id": self.name})
        claim_path = f"/api/v1/runs/{run['id']}/claim"
        self.claim = await self.post(claim_path, {"runnerId": self.name})

    async def append(self, first: int) -> None:
        self.sent = first + 1
        events = [
            {"type": "command_output", "payload": {"text": f"{self.name} {seq}"}}
            for seq in (first, first + 1)
        ]
        body = {"epoch": self.claim["epoch"], "firstProducerSeq": first, "events": events}
        path = f"/api/v1/runs/{self.claim['runId']}/events"
        answer = await self.post(path, body, self.claim["token"])
        self.acknowledged = answer["ackedProducerSeq"]

    async def write_until_gone(self, progress: asyncio.Event) -> None:
        try:
            while True:
                await self.append(self.acknowledged + 1)
                if self.acknowledged >= ACKNOWLEDGED_BEFORE_KILL:
                    progress.set()
        except httpx.TransportError:
            return


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else None


async def test_kill_9_in_the_middle_of_appends_loses_no_acknowledged_event(
    tmp_path: Path, database_url: str | None
) -> None:
    process, address = await start_process(tmp_path, *([database_url] if database_url else []))
    progress = asyncio.Event()
    async with httpx.AsyncClient(base_url=address, timeout=10) as http:
        writers = [Writer(http, f"w{n}") for n in range(APPENDERS)]
        for writer in writers:
            await writer.prepare()
        tasks = [asyncio.create_task(writer.write_until_gone(progress)) for writer in writers]
        async with asyncio.timeout(20):
            await progress.wait()
            process.send_signal(signal.SIGKILL)
            await process.wait()
            for task in tasks:
                await task

    assert any(writer.sent > writer.acknowledged for writer in writers), "nothing was in flight"
    manager = await serve(ManagerOptions(data_folder=tmp_path, database_url=database_url))
    try:
        async with httpx.AsyncClient(base_url=manager.address, timeout=10) as http:
            for writer in writers:
                writer.http = http
                # The lost answer: the same batch again, under the lease that was live.
                await writer.append(writer.acknowledged + 1)
                assert writer.acknowledged == writer.sent
                run_id = writer.claim["runId"]
                page = await manager.repository.read_events(run_id, 0, 1000)
                texts = [
                    msgspec.json.decode(event.payload)["text"]
                    for event in page.items
                    if event.type == "command_output"
                ]
                assert texts == [f"{writer.name} {n}" for n in range(1, writer.sent + 1)]
                assert await manager.repository.verify_run(run_id) == []
    finally:
        await manager.stop()


async def test_sigterm_ends_the_process_within_two_seconds_with_readers_parked(
    tmp_path: Path,
) -> None:
    process, address = await start_process(tmp_path)
    async with httpx.AsyncClient(base_url=address, timeout=10) as http:
        run_id = (await http.post("/api/v1/runs", json={})).json()["id"]
        path = f"/api/v1/runs/{run_id}/stream"
        async with http.stream("GET", path) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 200"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(2.5):
                assert await process.wait() == 0
