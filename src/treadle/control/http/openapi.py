"""The OpenAPI 3.1 document of the API, made from the records and the table of operations.

Serves it too. Knows how a description is written, not what an operation does.
"""

import re
from functools import cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control.http.exchange import answer, for_client
from treadle.control.http.operations import OPERATIONS, Operation, Query
from treadle.kit.version import VERSION

Json = dict[str, Any]

# Every operation may be refused at the door, meet a manager that stops, or fail inside.
COMMON_FAULTS = (401, 403, 500, 503)
_MEANINGS = {
    400: "A value is missing or wrong; `path` names it.",
    401: "The token is missing or wrong.",
    403: "Without a token only this machine may call.",
    404: "No such run, command or runner.",
    410: "Retention dropped these events; `minSeq` is the first that is there.",
    409: "It does not fit the present state; `code` says why.",
    413: "The body is too large.",
    500: "It failed inside; the log has the `logId`.",
    503: "The manager is overloaded, stopping or without its database; try again.",
}
_TOKEN_TEXTS = {
    "api": "The manager's API token; auth mode `none` needs none.",
    "claim": "The token of the claim that the write belongs to.",
    "session": "The token that the registration of the runner answered.",
}


async def show_description(request: Request) -> Response:
    """`GET /api/v1/openapi.json`."""
    del request
    return answer(describe_api())


@cache
def describe_api() -> Json:
    """The whole document; its operations are those of the table."""
    types = {each.body for each in OPERATIONS} | {each.answer for each in OPERATIONS}
    named = sorted(
        (each for each in types if isinstance(each, type) and issubclass(each, msgspec.Struct)),
        key=lambda each: each.__name__,
    )
    _, schemas = msgspec.json.schema_components(named, ref_template="#/components/schemas/{name}")
    schemas["Problem"] = _problem_schema()
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Treadle manager",
            "version": VERSION,
            "description": "Runs, commands, events, leases and results; see docs/control-api.md.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text}
                for name, text in _TOKEN_TEXTS.items()
            },
        },
    }


def _describe(operation: Operation) -> Json:
    described: Json = {
        "operationId": _name_of(operation),
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
        "security": [{operation.token: []}] if operation.token else [],
    }
    if operation.body is not None:
        content = {"application/json": {"schema": _ref(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _name_of(operation: Operation) -> str:
    words = re.findall(r"[a-z]+", operation.path.removeprefix("/api/v1/"))
    return "-".join((operation.method.lower(), *words))


def _parameters(operation: Operation) -> list[Json]:
    names = re.findall(r"{(\w+)}", operation.path)
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in names
    ]
    parameters += [_query_parameter(query) for query in operation.queries]
    if operation.keyed:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key with the same body answers the same again.",
                "schema": {"type": "string", "maxLength": 200},
            }
        )
    return parameters


def _query_parameter(query: Query) -> Json:
    schema: Json = {"type": "string"}
    if query.bounds is not None:
        low, high = query.bounds
        schema = {"type": "integer", "minimum": low, "maximum": high or 10**17}
    return {"name": query.name, "in": "query", "description": query.text, "schema": schema}


def _responses(operation: Operation) -> Json:
    kind = operation.answer
    if isinstance(kind, str):
        content: Json = {kind: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _ref(kind)}}
    responses: Json = {str(operation.status): {"description": "Done.", "content": content}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted({*operation.faults, *COMMON_FAULTS}):
        responses[str(status)] = {"description": _MEANINGS[status], "content": problem}
    return responses


def _ref(kind: Any) -> Json:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"type": "object"}


def _problem_schema() -> Json:
    """As RFC 9457 has it, with a stable code; further members depend on the code."""
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "code": text,
        },
    }


ROUTES = [Route("/api/v1/openapi.json", for_client(show_description), methods=["GET"])]
