"""A report that a runner is gone, over HTTP: who is woken, who is refused, what is counted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.control_lab import ControlLab, control_lab

LEASE_MS = 600_000


async def register(lab: ControlLab, runner: str) -> str:
    answer = await lab.post("/api/v1/runners/register", {"id": runner})
    return str(answer["sessionId"])


async def gone(lab: ControlLab, runner: str, session: str, **more: Any) -> Any:
    return await lab.post(f"/api/v1/runners/{runner}/gone", {"sessionId": session, **more})


async def parked(lab: ControlLab, runner: str) -> "asyncio.Task[Any]":
    """A pool claim that waits, once it has found nothing."""
    looks = await claims_tried(lab)
    body = {"runnerId": runner, "leaseMs": LEASE_MS, "waitMs": 30_000}
    claiming = asyncio.create_task(lab.http.post("/api/v1/claims", json=body))
    while await claims_tried(lab) == looks:
        await asyncio.sleep(0.01)
    return claiming


async def claims_tried(lab: ControlLab) -> int:
    told = (await lab.http.get("/metrics")).text
    name = 'treadle_database_seconds_count{operation="claim"} '
    return int(float((told.partition(name)[2] or "0").split()[0]))


async def test_a_claim_that_waits_gets_the_run_and_it_is_counted(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab, asyncio.timeout(20):
        session = await register(lab, "dead")
        await register(lab, "waiting")
        run_id, _ = await lab.run_with_turn()
        body = {"runnerId": "dead", "leaseMs": LEASE_MS}
        await lab.post(f"/api/v1/runs/{run_id}/claim", body)
        claiming = await parked(lab, "waiting")
        answer = await gone(lab, "dead", session, reason="out of memory")
        assert answer["lapsedRuns"] == [run_id]
        assert (answer["runner"]["goneAt"] is None, answer["runner"]["heldRuns"]) == (False, 0)
        (claim,) = (await claiming).json()["items"]
        assert (claim["runId"], claim["epoch"], claim["reason"]) == (run_id, 2, "gone")
        metrics = (await lab.http.get("/metrics")).text
        assert "treadle_gone_leases_total 1.0" in metrics
        assert 'treadle_claims_total{reason="gone"} 1.0' in metrics
        assert "treadle_lease_expirations_total 0.0" in metrics


async def test_a_claim_that_a_dead_runner_left_behind_takes_nothing(tmp_path: Path) -> None:
    """Its connection may look alive for long, as when a machine is lost."""
    async with control_lab(tmp_path) as lab, asyncio.timeout(20):
        session = await register(lab, "dead")
        claiming = await parked(lab, "dead")
        await gone(lab, "dead", session)
        refused = await claiming
        assert (refused.status_code, refused.json()["code"]) == (409, "runner-gone")
        run_id, _ = await lab.run_with_turn()
        assert (await lab.get(f"/api/v1/runs/{run_id}"))["claimedBy"] is None


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$"),
        ({"sessionId": 1}, "$.sessionId"),
        ({"sessionId": "s", "reason": "x" * 201}, "$.r"),
    ],
)
async def test_a_report_that_says_too_little_or_too_much_is_refused(
    tmp_path: Path, body: dict[str, Any], path: str
) -> None:
    async with control_lab(tmp_path) as lab:
        await register(lab, "r")
        answer = await lab.http.post("/api/v1/runners/r/gone", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
        assert answer.json()["path"].startswith(path)
        assert (await lab.get("/api/v1/runners/r"))["goneAt"] is None


async def test_what_a_runner_holds_is_no_right_to_report_it(tmp_path: Path) -> None:
    """Tokens of claims and sessions travel with runs; a report takes a role."""
    async with control_lab(tmp_path, locked=True) as lab:
        runner = await lab.post("/api/v1/runners/register", {"id": "r"})
        run_id, _ = await lab.run_with_turn()
        body = {"runnerId": "r", "leaseMs": LEASE_MS}
        claim = await lab.post(f"/api/v1/runs/{run_id}/claim", body)
        for token in (runner["token"], claim["token"], "tdl_x_y", "x"):
            headers = {"Authorization": f"Bearer {token}"}
            report = {"sessionId": runner["sessionId"]}
            path = "/api/v1/runners/r/gone"
            answer = await lab.http.post(path, json=report, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert (await lab.get("/api/v1/runners/r"))["goneAt"] is None
