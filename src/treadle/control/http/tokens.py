"""Tokens of tenants and projects over HTTP; the secret is told once, when one is made."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control.access import Role
from treadle.control.http.exchange import answer, caller_of, desk_of, for_client, read_body
from treadle.control.http.ingress import refuse_redacted
from treadle.control.token_records import ApiTokenList, TokenRequest
from treadle.control.token_rules import make_token_spec


async def create_token(request: Request) -> Response:
    """`POST /api/v1/tokens`."""
    body = await read_body(request, TokenRequest)
    refuse_redacted(body.name, "$.name")
    spec = make_token_spec(body, caller_of(request))
    return answer(await desk_of(request).repository.create_token(spec), 201)


async def list_tokens(request: Request) -> Response:
    """`GET /api/v1/tokens`."""
    found = await desk_of(request).repository.list_tokens(caller_of(request).scope)
    return answer(ApiTokenList(items=found))


async def revoke_token(request: Request) -> Response:
    """`DELETE /api/v1/tokens/{token_id}`."""
    token_id, scope = request.path_params["token_id"], caller_of(request).scope
    return answer(await desk_of(request).repository.revoke_token(token_id, scope))


ROUTES = [
    Route("/api/v1/tokens", for_client(create_token, Role.ADMIN), methods=["POST"]),
    Route("/api/v1/tokens", for_client(list_tokens, Role.ADMIN), methods=["GET"]),
    Route("/api/v1/tokens/{token_id}", for_client(revoke_token, Role.ADMIN), methods=["DELETE"]),
]
