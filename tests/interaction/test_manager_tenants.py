"""Tokens of tenants and projects: what each role may do, and that nobody sees what is others'."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.control_lab import ControlLab, control_lab
from treadle.control.access import Scope
from treadle.control.db.threads import ThreadRepository
from treadle.control.http.operations import OPERATIONS, Operation

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/v1/runs"): {},
    ("POST", "/api/v1/runs/{run_id}/commands"): {"type": "turn", "payload": {"prompt": "p"}},
    ("POST", "/api/v1/runs/{run_id}/claim"): {"runnerId": "of-{tenant}"},
    ("POST", "/api/v1/claims"): {"runnerId": "of-{tenant}", "max": 50},
    ("POST", "/api/v1/runners/register"): {"id": "of-{tenant}"},
    ("POST", "/api/v1/runners/{runner_id}/drain"): {"draining": False},
    ("POST", "/api/v1/runners/{runner_id}/gone"): {"sessionId": "0123456789abcdef"},
    ("POST", "/api/v1/tokens"): {"name": "more", "role": "reader"},
}
FENCED = [each for each in OPERATIONS if each.token in ("claim", "session")]
OPEN = [each for each in OPERATIONS if each.token is None or each.path.endswith("openapi.json")]


@dataclass
class Tenants:
    """A manager with a run, a runner and an admin's token for each of two tenants."""

    lab: ControlLab
    ids: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    tokens: dict[str, str] = field(default_factory=dict[str, str])

    async def token(self, role: str, by: str | None = None, **more: Any) -> dict[str, Any]:
        status, made = await self.ask(
            "POST", "/api/v1/tokens", {"name": role, "role": role, **more}, by
        )
        assert status == 201, made
        return made

    async def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await self.lab.http.request(method, path, json=body, headers=headers)
        return answer.status_code, answer.json() if answer.content else None

    async def settle(self, tenant: str) -> None:
        """Give a tenant a token, a runner and a run with an open turn."""
        made = await self.token("admin", tenantId=tenant)
        token = self.tokens[tenant] = made["token"]
        ids = self.ids[tenant] = {"token_id": made["apiToken"]["id"]}
        _, run = await self.ask("POST", "/api/v1/runs", {}, token)
        assert run["tenantId"] == tenant
        ids["run_id"] = run["id"]
        turn = {"type": "turn", "payload": {"prompt": "p"}}
        _, command = await self.ask("POST", f"/api/v1/runs/{run['id']}/commands", turn, token)
        ids["command_id"] = command["id"]
        runner = {"id": f"of-{tenant}"}
        _, registered = await self.ask("POST", "/api/v1/runners/register", runner, token)
        ids["runner_id"] = registered["id"]


@pytest.fixture
async def tenants(tmp_path: Path) -> AsyncIterator[Tenants]:
    async with control_lab(tmp_path, locked=True) as lab:
        tenants = Tenants(lab)
        for tenant in ("a", "b"):
            await tenants.settle(tenant)
        yield tenants


def filled(value: Any, tenant: str) -> Any:
    return json.loads(json.dumps(value).replace("{tenant}", tenant))


async def test_every_operation_is_blind_to_other_tenants(tenants: Tenants) -> None:
    theirs, token = tenants.ids["a"], tenants.tokens["b"]
    secrets = [*theirs.values(), "of-a"]
    tried = 0
    for operation in OPERATIONS:
        if operation in FENCED or operation in OPEN or operation.path.endswith("/stream"):
            continue
        path = operation.path.format(**theirs)
        body = filled(BODIES.get((operation.method, operation.path)), "b")
        answer = await tenants.lab.http.request(
            operation.method, path, json=body, headers={"Authorization": f"Bearer {token}"}
        )
        named = f"{operation.method} {operation.path}"
        if "{" in operation.path:
            assert answer.status_code == 404, (named, answer.text)
        assert not any(secret in answer.text for secret in secrets), named
        tried += 1
    assert tried > 12
    stream = f"/api/v1/runs/{theirs['run_id']}/stream"
    assert (await tenants.ask("GET", stream, token=token))[0] == 404
    # What was tried changed nothing of theirs.
    _, run = await tenants.ask("GET", f"/api/v1/runs/{theirs['run_id']}", token=tenants.tokens["a"])
    assert (run["status"], run["claimedBy"], run["cmdLast"]) == ("pending", None, 1)
    _, runners = await tenants.ask("GET", "/api/v1/runners", token=tenants.tokens["a"])
    assert [runner["id"] for runner in runners["items"]] == ["of-a"]


@pytest.mark.parametrize("operation", FENCED, ids=lambda each: each.path)
async def test_an_api_token_is_no_claim(tenants: Tenants, operation: Operation) -> None:
    ids = tenants.ids["a"]
    body = {"epoch": 1, "firstProducerSeq": 1, "events": [{"type": "error", "payload": {}}]}
    if operation.token == "session":
        body = {"runs": []}
    for token in tenants.tokens.values():
        status, _ = await tenants.ask("POST", operation.path.format(**ids), body, token)
        assert status in (401, 409)


async def test_what_the_guard_remembers_of_a_run_changes_no_answer(
    tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, looked_up = ThreadRepository.read_run_scope, list[str]()

    async def counted(repository: ThreadRepository, run_id: str) -> Scope:
        looked_up.append(run_id)
        return await find(repository, run_id)

    monkeypatch.setattr(ThreadRepository, "read_run_scope", counted)
    _, run = await tenants.ask("POST", "/api/v1/runs", {}, tenants.tokens["a"])
    path, missing = f"/api/v1/runs/{run['id']}", f"/api/v1/runs/{'0' * 36}"
    other_project = (await tenants.token("reader", tenantId="a", projectId="other"))["token"]
    callers = {tenants.tokens["b"]: 404, other_project: 404, tenants.tokens["a"]: 200}
    for _ in range(2):
        for token, expected in callers.items():
            assert (await tenants.ask("GET", path, token=token))[0] == expected
            status, problem = await tenants.ask("GET", missing, token=token)
            assert (status, problem["code"]) == (404, "run-not-found")
    assert looked_up.count(run["id"]) == 1
    assert looked_up.count("0" * 36) == 6


async def test_a_list_asked_for_another_tenant_is_empty(tenants: Tenants) -> None:
    token = tenants.tokens["b"]
    _, page = await tenants.ask("GET", "/api/v1/runs?tenantId=a", token=token)
    assert page["items"] == []
    _, page = await tenants.ask("GET", "/api/v1/runs", token=token)
    assert [run["tenantId"] for run in page["items"]] == ["b"]
    _, page = await tenants.ask("GET", "/api/v1/runs")
    assert {run["tenantId"] for run in page["items"]} == {"a", "b"}


async def test_nobody_creates_in_another_tenant_or_takes_its_runner(tenants: Tenants) -> None:
    token = tenants.tokens["b"]
    for body in ({"tenantId": "a"}, {"tenantId": "b", "projectId": "p"}):
        status, answer = await tenants.ask("POST", "/api/v1/runs", body, token)
        expected = (403, "forbidden") if body["tenantId"] == "a" else (201, None)
        assert (status, answer.get("code")) == expected
    status, problem = await tenants.ask("POST", "/api/v1/runners/register", {"id": "of-a"}, token)
    assert (status, problem["path"]) == (400, "$.id")
    status, problem = await tenants.ask(
        "POST", "/api/v1/tokens", {"name": "x", "role": "reader", "tenantId": "a"}, token
    )
    assert (status, problem["code"]) == (403, "forbidden")


async def test_a_pool_gives_a_runner_the_runs_of_its_tenant_alone(tenants: Tenants) -> None:
    token = tenants.tokens["b"]
    body = {"runnerId": "of-b", "max": 50}
    _, claims = await tenants.ask("POST", "/api/v1/claims", body, token)
    assert [claim["runId"] for claim in claims["items"]] == [tenants.ids["b"]["run_id"]]
    status, _ = await tenants.ask("POST", "/api/v1/claims", {**body, "runnerId": "of-a"}, token)
    assert status == 404


async def test_a_project_is_a_part_of_its_tenant(tenants: Tenants) -> None:
    admin = tenants.tokens["a"]
    made = await tenants.token("submitter", admin, projectId="p")
    token = made["token"]
    assert (made["apiToken"]["tenantId"], made["apiToken"]["projectId"]) == ("a", "p")
    status, _ = await tenants.ask("GET", f"/api/v1/runs/{tenants.ids['a']['run_id']}", token=token)
    assert status == 404
    _, run = await tenants.ask("POST", "/api/v1/runs", {}, token)
    assert (run["tenantId"], run["projectId"]) == ("a", "p")
    _, page = await tenants.ask("GET", "/api/v1/runs", token=token)
    assert [each["id"] for each in page["items"]] == [run["id"]]
    status, _ = await tenants.ask("GET", f"/api/v1/runs/{run['id']}", token=admin)
    assert status == 200


MAY = {
    "reader": (200, 403, 403, 403, 403, 403),
    "submitter": (200, 201, 403, 403, 403, 403),
    "operator": (200, 201, 200, 403, 403, 200),
    "admin": (200, 201, 200, 201, 201, 200),
    "runner": (200, 403, 403, 403, 201, 200),
}


@pytest.mark.parametrize("role", MAY)
async def test_a_role_may_what_it_is_for(tenants: Tenants, role: str) -> None:
    token = (await tenants.token(role, tenants.tokens["a"]))["token"]
    runner = f"/api/v1/runners/{tenants.ids['a']['runner_id']}"
    tried = [
        await tenants.ask("GET", f"/api/v1/runs/{tenants.ids['a']['run_id']}", token=token),
        await tenants.ask("POST", "/api/v1/runs", {}, token),
        await tenants.ask("POST", f"{runner}/drain", {"draining": True}, token),
        await tenants.ask("POST", "/api/v1/tokens", {"name": "n", "role": "reader"}, token),
        await tenants.ask("POST", "/api/v1/runners/register", {"id": "new"}, token),
        await tenants.ask("POST", f"{runner}/gone", {"sessionId": "of-an-earlier-one"}, token),
    ]
    assert tuple(status for status, _ in tried) == MAY[role]


async def test_a_token_ends_by_revocation_and_by_time(tmp_path: Path) -> None:
    async with control_lab(tmp_path, locked=True) as lab:
        tenants = Tenants(lab)
        made = await tenants.token("reader", tenantId="a")
        token, token_id = made["token"], made["apiToken"]["id"]
        assert token.startswith(f"tdl_{token_id}_")
        status, revoked = await tenants.ask("DELETE", f"/api/v1/tokens/{token_id}")
        assert (status, revoked["revokedAt"] is not None) == (200, True)
        # Not used before, so nothing remembers it.
        assert (await tenants.ask("GET", "/api/v1/runs", token=token))[0] == 401
        _, listed = await tenants.ask("GET", "/api/v1/tokens")
        assert [each["id"] for each in listed["items"]] == [token_id]
        assert token.rpartition("_")[2] not in json.dumps(listed)
        for bad in (f"tdl_{token_id}_wrong", "tdl_", "tdl_none_x", "tdl_\u00e4_x"):
            header = {"Authorization": b"Bearer " + bad.encode()}
            answer = await lab.http.get("/api/v1/runs", headers=header)
            assert answer.status_code == 401
        for bad in ({"expiresInMs": 1}, {"projectId": "p"}, {"tenantId": ""}):
            body = {"name": "n", "role": "reader", **bad}
            assert (await tenants.ask("POST", "/api/v1/tokens", body))[0] == 400


async def test_metrics_are_of_all_tenants(tenants: Tenants) -> None:
    # A scrape from this machine needs no token; the rule for others is the gate's.
    answer = await tenants.lab.http.get("/metrics")
    assert answer.status_code == 200
    assert "of-a" not in answer.text
