"""A manager's HTTP API as a test uses it: create a run, read its log, wait for what happens."""

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from support.command_line import WAIT_SECONDS


class ManagerApi:
    """One client of a manager that runs."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        token = (data / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=40)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self._http.get(path, params=query)
        assert answer.is_success, answer.text
        return answer.json()

    async def post(self, path: str, body: Any) -> Any:
        answer = await self._http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def create_turn(self, workspace: Path, prompt: str = "do it") -> tuple[str, str]:
        """A run with one turn; the ids of both."""
        run = await self.post(
            "/runs",
            {
                "workspaceRef": {"kind": "host-path", "path": str(workspace)},
                "executionPolicy": {"sandbox": "danger-full-access", "approval": "never"},
            },
        )
        turn = {"type": "turn", "payload": {"prompt": prompt}}
        command = await self.post(f"/runs/{run['id']}/commands", turn)
        return run["id"], command["id"]

    async def events(self, run_id: str) -> list[dict[str, Any]]:
        """The whole log of a run."""
        return (await self.get(f"/runs/{run_id}/events", limit=1000))["items"]

    async def wait_phase(self, run_id: str, phase: str) -> None:
        """Return once the log has an event of `phase`."""
        after = 0
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                query = {"afterSeq": after, "limit": 1000, "waitMs": 20_000}
                page = await self.get(f"/runs/{run_id}/events", **query)
                if any(each["payload"].get("phase") == phase for each in page["items"]):
                    return
                assert not page["terminal"] or page["items"], f"the run ended without {phase}"
                after = max([after, *(each["seq"] for each in page["items"])])

    async def wait_ended(self, run_id: str) -> dict[str, Any]:
        """The result of a run, once it has ended."""
        after = 0
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                query = {"afterSeq": after, "limit": 1000, "waitMs": 20_000}
                page = await self.get(f"/runs/{run_id}/events", **query)
                if page["terminal"]:
                    return await self.get(f"/runs/{run_id}/result")
                after = max([after, *(each["seq"] for each in page["items"])])


def assert_gapless(events: list[dict[str, Any]]) -> None:
    """A run's log counts from 1 without a gap."""
    assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
    assert events, "the log is empty"


def known_part(events: list[dict[str, Any]]) -> list[str]:
    """Events as text, to compare what was there before with what is there after."""
    return [json.dumps(each, sort_keys=True) for each in events]
