"""Tokens and epochs that give no right: every fenced write refuses each of them, and says so."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from treadle.control.http.server import ManagerOptions, serve

LEASE_MS = 200


@dataclass(frozen=True)
class Scene:
    """Run `one` was held by a first runner and is held by a second; run `two` by a third."""

    http: httpx.AsyncClient
    first: dict[str, Any]
    second: dict[str, Any]
    other: dict[str, Any]
    sessions: dict[str, str]

    async def post(self, path: str, body: Any, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.post(f"/api/v1/{path}", json=body, headers=headers)

    async def log(self) -> Any:
        path = f"/api/v1/runs/{self.second['runId']}/events?limit=1000"
        return (await self.http.get(path)).json()


@pytest.fixture(params=["sqlite", "postgres"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    manager = await serve(ManagerOptions(data_folder=tmp_path, database_url=url))
    try:
        async with httpx.AsyncClient(base_url=manager.address, timeout=20) as http:
            yield await _make_scene(http)
    finally:
        await manager.stop()


async def _make_scene(http: httpx.AsyncClient) -> Scene:
    sessions: dict[str, str] = {}
    runs = [(await http.post("/api/v1/runs", json={})).json()["id"] for _ in range(2)]

    async def claim(run_id: str, runner: str, lease_ms: int) -> dict[str, Any]:
        registered = await http.post("/api/v1/runners/register", json={"id": runner})
        sessions[runner] = registered.json()["token"]
        body = {"runnerId": runner, "leaseMs": lease_ms}
        while (
            answer := await http.post(f"/api/v1/runs/{run_id}/claim", json=body)
        ).status_code == 409:
            assert answer.json()["code"] == "lease-held"
        return answer.json()

    first = await claim(runs[0], "thief", LEASE_MS)
    second = await claim(runs[0], "holder", 60_000)
    other = await claim(runs[1], "neighbour", 60_000)
    assert (first["epoch"], second["epoch"]) == (1, 2)
    return Scene(http, first, second, other, sessions)


STOLEN = {
    "the old epoch with its old token": ("first", "first", 409, "fenced"),
    "the new epoch with the old token": ("second", "first", 401, "claim-token-invalid"),
    "the old epoch with the new token": ("first", "second", 409, "fenced"),
    "another run's token": ("second", "other", 401, "claim-token-invalid"),
}


@pytest.mark.parametrize("what", STOLEN)
async def test_a_write_with_stolen_or_old_rights_is_refused(scene: Scene, what: str) -> None:
    epoch_of, token_of, status, code = STOLEN[what]
    epoch: int = getattr(scene, epoch_of)["epoch"]
    token: str = getattr(scene, token_of)["token"]
    event = {"type": "command_output", "payload": {"text": what}}
    append = {"epoch": epoch, "firstProducerSeq": 1, "events": [event]}
    run_id = scene.second["runId"]
    before = await scene.log()
    for path, body in (("events", append), ("release", {"epoch": epoch, "reason": what})):
        answer = await scene.post(f"runs/{run_id}/{path}", body, token)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert token not in answer.text
    assert await scene.log() == before
    mine = {"epoch": scene.second["epoch"], "firstProducerSeq": 1, "events": [event]}
    assert (await scene.post(f"runs/{run_id}/events", mine, scene.second["token"])).is_success


async def test_a_heartbeat_renews_only_what_is_the_callers_own(scene: Scene) -> None:
    run_id = scene.second["runId"]

    async def beat(runner: str, epoch: int, token: str) -> httpx.Response:
        body = {"runs": [{"runId": run_id, "epoch": epoch}]}
        return await scene.post(f"runners/{runner}/heartbeat", body, token)

    for epoch in (1, 2):
        answer = await beat("thief", epoch, scene.sessions["thief"])
        assert answer.json()["lost"] == [run_id]
    for token in (scene.sessions["thief"], scene.second["token"], "nonsense"):
        assert (await beat("holder", 2, token)).status_code == 401
    assert (await beat("holder", 2, scene.sessions["holder"])).json()["lost"] == []
