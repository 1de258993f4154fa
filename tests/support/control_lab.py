"""A manager in this process and a JSON client of it, with the short forms that its tests use."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from treadle.control.http.server import ManagerOptions, RunningManager, serve
from treadle.control.placement.placer import MakePlacer
from treadle.kit.clock import Clock

WAIT_SECONDS = 10.0
API_TOKEN = "an-api-token-for-tests-only"


class ControlLab:
    """One running manager."""

    def __init__(self, manager: RunningManager, http: httpx.AsyncClient) -> None:
        self.manager = manager
        self.http = http

    async def post(self, path: str, body: Any, token: str | None = None) -> Any:
        """The answer of a request that must succeed."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await self.http.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def get(self, path: str) -> Any:
        """The answer of a read that must succeed."""
        answer = await self.http.get(path)
        assert answer.is_success, answer.text
        return answer.json()

    async def run_with_turn(self, **body: Any) -> tuple[str, str]:
        """The ids of a new run and of its first turn."""
        run = await self.post("/api/v1/runs", body)
        turn = {"type": "turn", "payload": {"prompt": "hello"}}
        command = await self.post(f"/api/v1/runs/{run['id']}/commands", turn)
        return run["id"], command["id"]

    async def claim(self, run_id: str, runner: str = "runner-1", lease_ms: int = 15_000) -> Any:
        """A claim by a runner that is registered for it."""
        await self.post("/api/v1/runners/register", {"id": runner, "attemptId": "a"})
        body = {"runnerId": runner, "leaseMs": lease_ms}
        return await self.post(f"/api/v1/runs/{run_id}/claim", body)

    async def append(self, claim: Any, first: int, *events: Any) -> httpx.Response:
        """The answer to a fenced append, whatever it is."""
        body = {"epoch": claim["epoch"], "firstProducerSeq": first, "events": list(events)}
        headers = {"Authorization": f"Bearer {claim['token']}"}
        path = f"/api/v1/runs/{claim['runId']}/events"
        return await self.http.post(path, json=body, headers=headers)


@asynccontextmanager
async def control_lab(
    folder: Path,
    *,
    locked: bool = False,
    clock: Clock | None = None,
    placers: Sequence[MakePlacer] = (),
) -> AsyncGenerator[ControlLab]:
    """A manager on SQLite in `folder`; `locked`: with the API token `API_TOKEN`."""
    options = ManagerOptions(
        data_folder=folder,
        auth="token" if locked else "none",
        token=API_TOKEN if locked else None,
        placers=placers,
    )
    manager = await serve(options, clock)
    headers = {"Authorization": f"Bearer {API_TOKEN}"} if locked else {}
    http = httpx.AsyncClient(base_url=manager.address, headers=headers, timeout=WAIT_SECONDS)
    async with http:
        yield ControlLab(manager, http)
    await manager.stop()
