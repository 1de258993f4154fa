"""Commands of a run over HTTP."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control import rules
from treadle.control.access import Role
from treadle.control.http.exchange import (
    answer,
    desk_of,
    for_client,
    read_body,
    request_key,
    wait_seconds,
    while_connected,
    whole,
)
from treadle.control.records import CommandRequest

DEFAULT_LIST = 200
MAX_LIST = 1000
MAX_SEQ = 2**62


async def create_command(request: Request) -> Response:
    """`POST /api/v1/runs/{run_id}/commands`."""
    body = await read_body(request, CommandRequest)
    payload = rules.check_command(body)
    asked: tuple[Any, ...] = (body.type, body.payload or {})
    if body.expires_in_ms is not None:
        asked = (*asked, body.expires_in_ms)
    key = request_key(request, body.idempotency_key, asked)
    run_id = request.path_params["run_id"]
    stored = await desk_of(request).repository.create_command(run_id, body, payload, key)
    headers = {"Idempotent-Replayed": "true"} if stored.replayed else None
    return Response(stored.body, 201, headers, "application/json")


async def list_commands(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}/commands`."""
    reading = desk_of(request).log.commands(
        request.path_params["run_id"],
        whole(request, "afterSeq", 0, (0, MAX_SEQ)),
        whole(request, "limit", DEFAULT_LIST, (1, MAX_LIST)),
        wait_seconds(request),
    )
    return answer(await while_connected(request, reading))


async def read_command(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}/commands/{command_id}`."""
    run_id, command_id = request.path_params["run_id"], request.path_params["command_id"]
    return answer(await desk_of(request).repository.read_command(run_id, command_id))


async def read_command_result(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}/commands/{command_id}/result`."""
    run_id, command_id = request.path_params["run_id"], request.path_params["command_id"]
    return answer(await desk_of(request).repository.read_result(run_id, command_id))


_COMMANDS = "/api/v1/runs/{run_id}/commands"
ROUTES = [
    Route(_COMMANDS, for_client(create_command, Role.SUBMITTER), methods=["POST"]),
    Route(_COMMANDS, for_client(list_commands), methods=["GET"]),
    Route(_COMMANDS + "/{command_id}", for_client(read_command), methods=["GET"]),
    Route(_COMMANDS + "/{command_id}/result", for_client(read_command_result), methods=["GET"]),
]
