"""Runners, claims, heartbeats and releases over HTTP."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control.access import Role
from treadle.control.db.repository import Claimant, Departure, RunnerQuery
from treadle.control.faults import InvalidRequest
from treadle.control.http.exchange import (
    MAX_WAIT_MS,
    answer,
    caller_of,
    desk_of,
    for_client,
    for_runner,
    read_body,
    while_connected,
    whole,
)
from treadle.control.http.ingress import refuse_redacted
from treadle.control.records import (
    DEFAULT_LEASE_MS,
    ClaimList,
    ClaimRequest,
    DrainRequest,
    GoneAnswer,
    GoneRequest,
    HeartbeatRequest,
    PoolClaimRequest,
    RegisterRequest,
    ReleaseRequest,
    Runner,
    RunnerPage,
)
from treadle.control.rules import lease_or_default
from treadle.kit.clock import parse_iso

MAX_CLAIMS = 50
DEFAULT_LIST = 50
MAX_LIST = 200
MAX_REASON = 200


async def register_runner(request: Request) -> Response:
    """`POST /api/v1/runners/register`."""
    body = await read_body(request, RegisterRequest)
    if body.id is not None and not 1 <= len(body.id) <= 200:
        raise InvalidRequest("A runner's id has 1 to 200 characters.", "$.id")
    refuse_redacted(body.id or "", "$.id")
    return answer(
        await desk_of(request).repository.register_runner(body, caller_of(request).scope), 201
    )


async def list_runners(request: Request) -> Response:
    """`GET /api/v1/runners`."""
    limit = whole(request, "limit", DEFAULT_LIST, (1, MAX_LIST))
    query = RunnerQuery(
        limit + 1, _cursor(request.query_params.get("cursor")), caller_of(request).scope
    )
    found = await desk_of(request).repository.list_runners(query)
    items = found[:limit]
    return answer(RunnerPage(items, _cursor_after(items[-1]) if len(found) > limit else None))


async def drain_runner(request: Request) -> Response:
    """`POST /api/v1/runners/{runner_id}/drain`."""
    body = await read_body(request, DrainRequest)
    runner_id = request.path_params["runner_id"]
    scope = caller_of(request).scope
    return answer(await desk_of(request).repository.drain_runner(runner_id, body.draining, scope))


async def read_runner(request: Request) -> Response:
    """`GET /api/v1/runners/{runner_id}`."""
    runner_id = request.path_params["runner_id"]
    return answer(
        await desk_of(request).repository.read_runner(runner_id, caller_of(request).scope)
    )


async def report_gone(request: Request) -> Response:
    """`POST /api/v1/runners/{runner_id}/gone`."""
    body = await read_body(request, GoneRequest)
    reason = (body.reason or "").strip()
    if len(reason) > MAX_REASON:
        raise InvalidRequest(f"A reason has at most {MAX_REASON} characters.", "$.reason")
    repository, scope = desk_of(request).repository, caller_of(request).scope
    runner_id = request.path_params["runner_id"]
    lapsed = await repository.end_session(
        Departure(runner_id, body.session_id, reason or None, scope)
    )
    return answer(GoneAnswer(await repository.read_runner(runner_id, scope), lapsed))


async def claim_run(request: Request) -> Response:
    """`POST /api/v1/runs/{run_id}/claim`."""
    body = await read_body(request, ClaimRequest)
    run_id = request.path_params["run_id"]
    return answer(await desk_of(request).repository.claim(run_id, _claimant(request, body)))


async def claim_runs(request: Request) -> Response:
    """`POST /api/v1/claims`."""
    body = await read_body(request, PoolClaimRequest)
    if not 1 <= body.max <= MAX_CLAIMS:
        raise InvalidRequest(f"max must be between 1 and {MAX_CLAIMS}.", "$.max")
    wait = min(max(body.wait_ms, 0), MAX_WAIT_MS) / 1000
    claiming = desk_of(request).log.claim_waiting(
        _claimant(request, body), body.backend_profile, body.max, wait
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


def _cursor_after(runner: Runner) -> str:
    return f"{round(parse_iso(runner.last_seen_at) * 1000)}.{runner.id}"


def _cursor(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    seen, dot, runner_id = text.partition(".")
    if not dot or not seen.isascii() or not seen.isdigit() or len(seen) > 18:
        raise InvalidRequest("Give the nextCursor of the page before.", "?cursor")
    return int(seen), runner_id


def _claimant(request: Request, body: ClaimRequest) -> Claimant:
    lease_ms = lease_or_default(body.lease_ms, DEFAULT_LEASE_MS)
    scope = caller_of(request).scope
    return Claimant(body.runner_id, body.attempt_id, lease_ms, scope, body.session_id)


ROUTES = [
    Route("/api/v1/runners/{runner_id}/heartbeat", for_runner(heartbeat), methods=["POST"]),
    Route("/api/v1/runners/register", for_client(register_runner, Role.RUNNER), methods=["POST"]),
    Route("/api/v1/runners", for_client(list_runners), methods=["GET"]),
    Route(
        "/api/v1/runners/{runner_id}/drain",
        for_client(drain_runner, Role.OPERATOR),
        methods=["POST"],
    ),
    Route("/api/v1/runners/{runner_id}", for_client(read_runner), methods=["GET"]),
    Route(
        "/api/v1/runners/{runner_id}/gone",
        for_client(report_gone, Role.RUNNER, Role.OPERATOR),
        methods=["POST"],
    ),
    Route("/api/v1/runs/{run_id}/claim", for_client(claim_run, Role.RUNNER), methods=["POST"]),
    Route("/api/v1/claims", for_client(claim_runs, Role.RUNNER), methods=["POST"]),
    Route("/api/v1/runs/{run_id}/release", for_runner(release_run), methods=["POST"]),
]
