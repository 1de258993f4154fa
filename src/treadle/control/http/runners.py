"""Runners, claims, heartbeats and releases over HTTP."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control.db.repository import Claimant
from treadle.control.faults import InvalidRequest
from treadle.control.http.exchange import (
    MAX_WAIT_MS,
    answer,
    desk_of,
    for_client,
    for_runner,
    read_body,
    while_connected,
)
from treadle.control.http.ingress import refuse_redacted
from treadle.control.records import (
    DEFAULT_LEASE_MS,
    ClaimList,
    ClaimRequest,
    HeartbeatRequest,
    PoolClaimRequest,
    RegisterRequest,
    ReleaseRequest,
)
from treadle.control.rules import lease_or_default

MAX_CLAIMS = 50


async def register_runner(request: Request) -> Response:
    """`POST /api/v1/runners/register`."""
    body = await read_body(request, RegisterRequest)
    if body.id is not None and not 1 <= len(body.id) <= 200:
        raise InvalidRequest("A runner's id has 1 to 200 characters.", "$.id")
    refuse_redacted(body.id or "", "$.id")
    return answer(await desk_of(request).repository.register_runner(body), 201)


async def claim_run(request: Request) -> Response:
    """`POST /api/v1/runs/{run_id}/claim`."""
    body = await read_body(request, ClaimRequest)
    run_id = request.path_params["run_id"]
    return answer(await desk_of(request).repository.claim(run_id, _claimant(body)))


async def claim_runs(request: Request) -> Response:
    """`POST /api/v1/claims`."""
    body = await read_body(request, PoolClaimRequest)
    if not 1 <= body.max <= MAX_CLAIMS:
        raise InvalidRequest(f"max must be between 1 and {MAX_CLAIMS}.", "$.max")
    wait = min(max(body.wait_ms, 0), MAX_WAIT_MS) / 1000
    claiming = desk_of(request).log.claim_waiting(
        _claimant(body), body.backend_profile, body.max, wait
    )
    return answer(ClaimList(items=await while_connected(request, claiming)))


async def heartbeat(request: Request, token: str) -> Response:
    """`POST /api/v1/runners/{runner_id}/heartbeat`."""
    body = await read_body(request, HeartbeatRequest)
    runner_id = request.path_params["runner_id"]
    return answer(await desk_of(request).repository.heartbeat(runner_id, token, body))


async def release_run(request: Request, token: str) -> Response:
    """`POST /api/v1/runs/{run_id}/release`."""
    body = await read_body(request, ReleaseRequest)
    run_id = request.path_params["run_id"]
    return answer(await desk_of(request).repository.release(run_id, token, body))


def _claimant(body: ClaimRequest) -> Claimant:
    lease_ms = lease_or_default(body.lease_ms, DEFAULT_LEASE_MS)
    return Claimant(body.runner_id, body.attempt_id, lease_ms)


ROUTES = [
    Route("/api/v1/runners/register", for_client(register_runner), methods=["POST"]),
    Route("/api/v1/runs/{run_id}/claim", for_client(claim_run), methods=["POST"]),
    Route("/api/v1/claims", for_client(claim_runs), methods=["POST"]),
    Route("/api/v1/runners/{runner_id}/heartbeat", for_runner(heartbeat), methods=["POST"]),
    Route("/api/v1/runs/{run_id}/release", for_runner(release_run), methods=["POST"]),
]
