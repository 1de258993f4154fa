"""What a manager tells Prometheus of its own work."""

import asyncio
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.control_lab import WAIT_SECONDS, ControlLab, control_lab


async def scrape(lab: ControlLab) -> dict[str, float]:
    """All samples, as `name` or `name{label}`."""
    answer = await lab.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(value for _, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def event(kind: str, **payload: Any) -> dict[str, Any]:
    return {"type": kind, "payload": payload}


async def test_claims_leases_and_the_queue_are_counted(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        run_id, _ = await lab.run_with_turn()
        await lab.run_with_turn()
        await lab.post("/api/v1/runs", {})  # has no command, so it waits for nobody
        before = await scrape(lab)
        assert (before["treadle_waiting_runs"], before["treadle_live_leases"]) == (2, 0)
        await lab.claim(run_id)
        after = await scrape(lab)
    assert (after["treadle_waiting_runs"], after["treadle_live_leases"]) == (1, 1)
    assert after["treadle_claims_total{first}"] == 1
    assert after["treadle_claim_wait_seconds_count"] == 1
    assert 0 <= after["treadle_claim_wait_seconds_sum"] < WAIT_SECONDS
    assert 0 <= after["treadle_queue_age_seconds"] < WAIT_SECONDS
    assert after["treadle_database_up"] == 1


async def test_runs_that_wait_for_a_person_are_counted(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        run_id, command_id = await lab.run_with_turn()
        claim = await lab.claim(run_id)
        status: dict[str, Any] = {"phase": "command-acknowledged"}
        question = {"phase": "server-request-opened", "requestId": "1-1", "decisions": ["accept"]}
        events = [{**event("backend_status", **each), "commandId": command_id}
                  for each in (status, question)]  # fmt: skip
        assert (await lab.append(claim, 1, *events)).status_code == 200
        assert (await scrape(lab))["treadle_needs_input_runs"] == 1
        settled = event("backend_status", phase="server-request-settled", requestId="1-1")
        assert (await lab.append(claim, 3, settled)).status_code == 200
        after = await scrape(lab)
    assert (after["treadle_needs_input_runs"], after["treadle_live_leases"]) == (0, 1)


async def test_appends_retries_and_failures_are_counted_once(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        run_id, command_id = await lab.run_with_turn()
        claim = await lab.claim(run_id)
        events = [
            event("error", failureKind="provider-rate-limited", message="m", willRetry=True),
            event("error", failureKind="provider-rate-limited", message="m", willRetry=False),
            event("error", failureKind="a kind of my own", message="m", willRetry=True),
            event("error", failureKind=["strange"], willRetry=True),
            {
                **event(
                    "backend_status",
                    phase="command-terminal",
                    state="failed",
                    failureKind="provider-auth-failed",
                ),
                "commandId": command_id,
            },
        ]
        for _ in range(2):
            assert (await lab.append(claim, 1, *events)).is_success
        found = await scrape(lab)
    assert found["treadle_append_batch_events_sum"] == len(events)
    assert found["treadle_append_batch_events_count"] == 1
    assert found["treadle_database_seconds_count{append}"] == 2
    assert found["treadle_retries_total{provider-rate-limited}"] == 1
    assert found["treadle_retries_total{other}"] == 2
    assert found["treadle_failures_total{provider-auth-failed,command}"] == 1


async def test_an_expired_lease_and_the_write_it_fences_are_counted(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        run_id, _ = await lab.run_with_turn()
        claim = await lab.claim(run_id, lease_ms=100)
        async with asyncio.timeout(WAIT_SECONDS):
            after = claim["lastSeq"]
            while True:
                path = f"/api/v1/runs/{run_id}/events?afterSeq={after}&waitMs=5000"
                items = (await lab.get(path))["items"]
                if any(each["payload"].get("phase") == "run-lease-expired" for each in items):
                    break
                after = max([after, *(each["seq"] for each in items)])
        refused = await lab.append(claim, 1, event("note"))
        assert refused.json()["code"] == "fenced"
        found = await scrape(lab)
    assert found["treadle_lease_expirations_total"] == 1
    assert found["treadle_fenced_writes_rejected_total{append}"] == 1


async def test_streams_are_counted_while_they_are_open(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        run_id, _ = await lab.run_with_turn()
        assert (await scrape(lab))["treadle_stream_subscribers"] == 0
        async with lab.http.stream("GET", f"/api/v1/runs/{run_id}/stream") as stream:
            lines = stream.aiter_lines()
            async with asyncio.timeout(WAIT_SECONDS):
                while "command-created" not in await anext(lines):
                    continue
            found = await scrape(lab)
            assert found["treadle_stream_subscribers"] == 1
            assert found["treadle_stream_lag_events"] == 0
        async with asyncio.timeout(WAIT_SECONDS):
            while (await scrape(lab))["treadle_stream_subscribers"]:
                continue


async def test_this_machine_scrapes_without_a_token_but_not_under_a_foreign_name(
    tmp_path: Path,
) -> None:
    async with control_lab(tmp_path, locked=True) as lab:
        lab.http.headers.pop("authorization")
        assert (await lab.http.get("/metrics")).status_code == 200
        foreign = await lab.http.get("/metrics", headers={"Host": "manager.example"})
        assert foreign.status_code == 403
        # Behind a proxy of this machine the caller is whom the proxy names.
        proxied = {"X-Forwarded-For": "198.51.100.7"}
        assert (await lab.http.get("/metrics", headers=proxied)).status_code == 401


async def test_each_manager_has_a_registry_of_its_own(tmp_path: Path) -> None:
    async with control_lab(tmp_path / "a") as one, control_lab(tmp_path / "b") as other:
        run_id, _ = await one.run_with_turn()
        await one.claim(run_id)
        assert "treadle_claims_total{first}" not in await scrape(other)
