"""Runs and their results over HTTP."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control import rules
from treadle.control.access import Role, Scope
from treadle.control.db.repository import RunQuery
from treadle.control.faults import Forbidden, InvalidRequest
from treadle.control.http.exchange import (
    Desk,
    answer,
    caller_of,
    desk_of,
    for_client,
    read_body,
    request_key,
    whole,
)
from treadle.control.placed import PROCESS
from treadle.control.records import RunPage, RunRequest, RunSpec, Verification

DEFAULT_LIST = 50
MAX_LIST = 200


async def create_run(request: Request) -> Response:
    """`POST /api/v1/runs`."""
    body = await read_body(request, RunRequest)
    scope = caller_of(request).scope
    body.tenant_id = body.tenant_id or scope.tenant_id
    body.project_id = body.project_id or scope.project_id
    spec = rules.make_spec(body)
    _check_placement(desk_of(request), spec)
    if not scope.holds(Scope(spec.tenant_id, spec.project_id)):
        raise Forbidden("Your token is for another tenant or project; leave them out.")
    key = request_key(request, body.idempotency_key, spec)
    stored = await desk_of(request).repository.create_run(spec, key)
    headers = {"Idempotent-Replayed": "true"} if stored.replayed else None
    return Response(stored.body, 201, headers, "application/json")


def _check_placement(desk: Desk, spec: RunSpec) -> None:
    """Refuse what nobody here would ever place."""
    if spec.placement == PROCESS:
        return
    placer = desk.placers.get(spec.placement)
    if placer is None:
        raise InvalidRequest(
            f"This manager places no runners as {spec.placement}; leave placement out, or start "
            "it with --kubernetes.",
            "$.placement",
        )
    reason = placer.why_not(spec)
    if reason is not None:
        raise InvalidRequest(reason, "$.placement")


async def list_runs(request: Request) -> Response:
    """`GET /api/v1/runs`."""
    limit = whole(request, "limit", DEFAULT_LIST, (1, MAX_LIST))
    scope = caller_of(request).scope
    tenant_id = request.query_params.get("tenantId", scope.tenant_id)
    project_id = request.query_params.get("projectId", scope.project_id)
    query = RunQuery(
        limit=limit + 1,
        cursor=request.query_params.get("cursor"),
        status=request.query_params.get("status"),
        tenant_id=tenant_id,
        project_id=project_id,
    )
    visible = scope.holds(Scope(tenant_id, project_id))
    found = await desk_of(request).repository.list_runs(query) if visible else []
    items = found[:limit]
    return answer(RunPage(items=items, next_cursor=items[-1].id if len(found) > limit else None))


async def read_run(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}`."""
    return answer(await desk_of(request).repository.read_run(request.path_params["run_id"]))


async def read_result(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}/result`."""
    command_id = request.query_params.get("commandId")
    run_id = request.path_params["run_id"]
    return answer(await desk_of(request).repository.read_result(run_id, command_id))


async def verify_run(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}/verification`."""
    run_id = request.path_params["run_id"]
    findings = await desk_of(request).repository.verify_run(run_id)
    return answer(Verification(run_id=run_id, findings=findings))


ROUTES = [
    Route("/api/v1/runs", for_client(create_run, Role.SUBMITTER), methods=["POST"]),
    Route("/api/v1/runs", for_client(list_runs), methods=["GET"]),
    Route("/api/v1/runs/{run_id}", for_client(read_run), methods=["GET"]),
    Route("/api/v1/runs/{run_id}/result", for_client(read_result), methods=["GET"]),
    Route(
        "/api/v1/runs/{run_id}/verification", for_client(verify_run, Role.OPERATOR), methods=["GET"]
    ),
]
