"""What every resource needs of a request: bounded bodies, checked queries, encoded answers.

Translation only; knows neither runs nor leases.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from treadle.control.access import EVERYTHING, Principal, Role
from treadle.control.db.journal import run_not_found
from treadle.control.db.repository import Repository, RequestKey
from treadle.control.events import RunLog
from treadle.control.faults import ControlFault, Forbidden, InvalidRequest
from treadle.control.http.auth import Gate
from treadle.control.http.ingress import redact_body, refuse_redacted
from treadle.control.http.metrics import Metrics
from treadle.control.http.problems import HttpFault, invalid_body, problem_of
from treadle.control.http.run_scopes import RunScopes
from treadle.control.http.watchdog import LoopWatch
from treadle.control.placement.placer import Placer
from treadle.kit.clock import Clock
from treadle.kit.fault_points import reach
from treadle.kit.redact import Redactor
from treadle.kit.tasks import TaskScope
from treadle.kit.tracing import is_traced, span

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_WAIT_MS = 60_000
MAX_KEY_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Desk:
    """What handlers work with."""

    log: RunLog
    gate: Gate
    scopes: RunScopes
    started_at: str
    clock: Clock
    metrics: Metrics
    watch: LoopWatch
    redactor: Redactor
    placers: Mapping[str, Placer] = field(default_factory=dict[str, Placer])
    """Who places runners here, by the placement that runs ask for."""

    @property
    def repository(self) -> Repository:
        """The database behind the log."""
        return self.log.repository


def desk_of(request: Request) -> Desk:
    """The desk of the application that got the request."""
    desk: Desk = request.app.state.desk
    return desk


def for_client(handler: Handler, *needed: Role) -> Handler:
    """Admit a client with one of the roles (a reader's by default) and the tenant first.

    What is raised becomes a problem.
    """
    roles = needed or (Role.READER,)

    async def guarded(request: Request) -> Response:
        try:
            with _traced(request):
                await _admit(request, roles)
                reach("control.http.client-asked")
                response = await handler(request)
        except Exception as error:  # noqa: BLE001 - the boundary: nothing else may answer
            response = problem_of(error)
        reach("control.http.client-answering")
        return response

    return guarded


def _traced(request: Request) -> AbstractContextManager[object]:
    """A span of the caller's trace; its name has no ids, so that there are few names."""
    if not is_traced():
        return nullcontext()
    path = request.url.path
    for name, value in request.path_params.items():
        path = path.replace(f"/{value}", f"/{{{name}}}", 1)
    run_id = request.path_params.get("run_id")
    parent = request.headers.get("traceparent")
    return span(f"http {request.method} {path}", {"run.id": run_id}, parent)


async def _admit(request: Request, roles: tuple[Role, ...]) -> None:
    """Let the caller pass, and note who it is.

    Raises:
        Forbidden: the caller's role does not cover the operation.
        NotFound: the run is missing, or of another tenant: the answer is the same.
    """
    desk = desk_of(request)
    principal = await desk.gate.admit(request)
    if not any(principal.may(role) for role in roles):
        wanted = " or ".join(roles)
        raise Forbidden(f"This takes a token with role {wanted}; yours has {principal.role}.")
    request.state.principal = principal
    run_id = request.path_params.get("run_id")
    if run_id is None or principal.scope == EVERYTHING:
        return
    if not principal.scope.holds(await desk.scopes.of(run_id)):
        raise run_not_found()


def caller_of(request: Request) -> Principal:
    """Who the guard let in."""
    principal: Principal = request.state.principal
    return principal


def for_runner(handler: Callable[[Request, str], Awaitable[Response]]) -> Handler:
    """Hand the handler the runner's token; turn what is raised into a problem."""

    async def guarded(request: Request) -> Response:
        try:
            with _traced(request):
                token = desk_of(request).gate.admit_fenced(request)
                reach("control.http.runner-asked")
                response = await handler(request, token)
        except Exception as error:  # noqa: BLE001 - the boundary: nothing else may answer
            response = problem_of(error)
        reach("control.http.runner-answering")
        return response

    return guarded


async def read_body(request: Request, shape: type[T]) -> T:
    """Decode a JSON body without the tokens in it; an empty one counts as `{}`.

    Raises:
        HttpFault: the body is larger than `MAX_BODY_BYTES`.
        InvalidRequest: it is not JSON of that shape; names the field.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise HttpFault(
                413,
                "body-too-large",
                f"At most {MAX_BODY_BYTES} bytes fit; send less at once.",
                limitBytes=MAX_BODY_BYTES,
            )
        chunks.append(chunk)
    body = redact_body(b"".join(chunks) or b"{}", desk_of(request).redactor)
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.MsgspecError as error:
        raise invalid_body(error) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("The body is not UTF-8.", "$") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.", "$") from error


def request_key(request: Request, body_key: str | None, shape: object) -> RequestKey | None:
    """The idempotency key of a request (body before header) with the hash of what it asks."""
    key = body_key or request.headers.get("idempotency-key")
    if not key:
        return None
    refuse_redacted(desk_of(request).redactor.text(key), "$.idempotencyKey")
    if len(key) > MAX_KEY_CHARACTERS:
        raise InvalidRequest(
            f"An idempotency key has at most {MAX_KEY_CHARACTERS} characters.", "$.idempotencyKey"
        )
    return RequestKey(key, hashlib.sha256(msgspec.json.encode(shape, order="sorted")).digest())


def whole(request: Request, name: str, default: int, bounds: tuple[int, int]) -> int:
    """A whole number of the query; above the upper bound counts as the bound.

    Raises:
        InvalidRequest: it is no number, or below the lower bound.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    low, high = bounds
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < low:
        raise InvalidRequest(f"{name} must be a whole number of at least {low}.", f"?{name}")
    return min(int(text), high)


def wait_seconds(request: Request) -> float:
    """How long the request may be parked."""
    return whole(request, "waitMs", 0, (0, MAX_WAIT_MS)) / 1000


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Run a parked read until its caller goes away; the body must have been read before.

    Without this a pool claim whose runner is gone would still take work when it comes.

    Raises:
        HttpFault: the caller went away; nobody will see it.
    """
    scope = TaskScope("parked request", on_failure=_left_to_caller)
    working = scope.start(work, "work")
    leaving = scope.start(_disconnected(request), "disconnect")
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HttpFault(499, "client-gone", "The caller went away.")
        return working.result()
    finally:
        await scope.close(1.0)


def _left_to_caller(name: str, error: BaseException) -> None:
    del name, error  # raised again out of `working.result()`


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def answer(body: object, status: int = 200) -> Response:
    """Encode a record as the answer."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def closed_door(request: Request, error: Exception) -> Response:
    """What the router answers for unknown paths and methods."""
    status = getattr(error, "status_code", 404)
    del request
    fault: ControlFault
    if status == 405:
        fault = HttpFault(405, "method-not-allowed", "This path takes another method.")
    else:
        fault = HttpFault(404, "not-found", "No such path; see the API's description.")
    return problem_of(fault)
