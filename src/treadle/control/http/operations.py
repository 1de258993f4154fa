"""The table of the API's operations: what each takes, answers and refuses.

The OpenAPI document is made from it, and a test holds it against the routes. Knows types and
statuses, not how a request is handled.
"""

from dataclasses import dataclass
from typing import Any, Literal

from treadle.control import records, token_records

Token = Literal["api", "claim", "session"]


class Health(records.Body):
    """Answer of the liveness probe."""

    status: Literal["ok"]


class Readiness(records.Body):
    """Answer of the readiness probe."""

    status: Literal["ready"]
    schema_version: int
    started_at: str


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query; `bounds` of a whole number, None for a text."""

    name: str
    text: str
    bounds: tuple[int, int | None] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    method: str
    path: str
    summary: str
    answer: Any
    """A record type, or the media type of an answer that is no JSON."""
    status: int = 200
    body: Any = None
    queries: tuple[Query, ...] = ()
    faults: tuple[int, ...] = ()
    """Statuses of refusals beyond those that every operation has."""
    token: Token | None = "api"
    keyed: bool = False
    """Whether it takes an Idempotency-Key."""


AFTER_SEQ = Query("afterSeq", "Only what is newer than this seq.", (0, None))
# Larger values count as the maximum, so these have none.
LIMIT = Query("limit", "How many at most.", (1, None))
WAIT_MS = Query("waitMs", "Wait this long for something new; at most 60000 count.", (0, None))
_RUN = "/api/v1/runs/{run_id}"
_FENCED = (400, 401, 404, 409, 413)

OPERATIONS = (
    Operation(
        "POST",
        "/api/v1/runs",
        "Create a run",
        records.Run,
        201,
        body=records.RunRequest,
        faults=(400, 409, 413),
        keyed=True,
    ),
    Operation(
        "GET",
        "/api/v1/runs",
        "List runs, newest first",
        records.RunPage,
        queries=(
            LIMIT,
            Query("cursor", "The nextCursor of the page before."),
            Query("status", "Only runs of this status."),
            Query("tenantId", "Only runs of this tenant."),
            Query("projectId", "Only runs of this project."),
        ),
        faults=(400,),
    ),
    Operation("GET", _RUN, "Read a run", records.Run, faults=(400, 404)),
    Operation(
        "GET",
        f"{_RUN}/result",
        "Read the result of a run or command",
        records.ResultEnvelope,
        queries=(Query("commandId", "The result of this command instead."),),
        faults=(400, 404),
    ),
    Operation(
        "GET",
        f"{_RUN}/verification",
        "Compare the stored state with the log",
        records.Verification,
        faults=(400, 404),
    ),
    Operation(
        "POST",
        f"{_RUN}/commands",
        "Give a run a command",
        records.Command,
        201,
        body=records.CommandRequest,
        faults=(400, 404, 409, 413),
        keyed=True,
    ),
    Operation(
        "GET",
        f"{_RUN}/commands",
        "List the commands of a run",
        records.CommandPage,
        queries=(AFTER_SEQ, LIMIT, WAIT_MS),
        faults=(400, 404),
    ),
    Operation(
        "GET",
        f"{_RUN}/commands/{{command_id}}",
        "Read a command",
        records.Command,
        faults=(400, 404),
    ),
    Operation(
        "GET",
        f"{_RUN}/commands/{{command_id}}/result",
        "Read the result of a command",
        records.ResultEnvelope,
        faults=(400, 404),
    ),
    Operation(
        "GET",
        f"{_RUN}/events",
        "Read the log of a run",
        records.EventPage,
        queries=(AFTER_SEQ, LIMIT, WAIT_MS),
        faults=(400, 404, 410),
    ),
    Operation(
        "POST",
        f"{_RUN}/events",
        "Append events under a lease",
        records.AppendAnswer,
        body=records.AppendRequest,
        faults=_FENCED,
        token="claim",
    ),
    Operation(
        "GET",
        f"{_RUN}/stream",
        "Follow the log of a run",
        "text/event-stream",
        queries=(AFTER_SEQ,),
        faults=(400, 404, 410),
    ),
    Operation(
        "POST",
        "/api/v1/runners/register",
        "Register a runner",
        records.Registration,
        201,
        body=records.RegisterRequest,
        faults=(400, 413),
    ),
    Operation(
        "GET",
        "/api/v1/runners",
        "List runners, those heard of last first",
        records.RunnerPage,
        queries=(LIMIT, Query("cursor", "The nextCursor of the page before.")),
        faults=(400,),
    ),
    Operation(
        "POST",
        "/api/v1/runners/{runner_id}/drain",
        "Let a runner take no more runs, or again",
        records.Runner,
        body=records.DrainRequest,
        faults=(400, 404, 413),
    ),
    Operation(
        "GET",
        "/api/v1/runners/{runner_id}",
        "Read a runner",
        records.Runner,
        faults=(400, 404),
    ),
    Operation(
        "POST",
        "/api/v1/runners/{runner_id}/gone",
        "Report that a registration of a runner is over",
        records.GoneAnswer,
        body=records.GoneRequest,
        faults=(400, 404, 413),
    ),
    Operation(
        "POST",
        f"{_RUN}/claim",
        "Claim a run",
        records.Claim,
        body=records.ClaimRequest,
        faults=(400, 404, 409, 413),
    ),
    Operation(
        "POST",
        "/api/v1/claims",
        "Claim runs that wait",
        records.ClaimList,
        body=records.PoolClaimRequest,
        faults=(400, 404, 409, 413),
    ),
    Operation(
        "POST",
        "/api/v1/runners/{runner_id}/heartbeat",
        "Renew leases",
        records.HeartbeatAnswer,
        body=records.HeartbeatRequest,
        faults=(400, 404, 413),
        token="session",
    ),
    Operation(
        "POST",
        f"{_RUN}/release",
        "Give a lease back",
        records.ReleaseAnswer,
        body=records.ReleaseRequest,
        faults=_FENCED,
        token="claim",
    ),
    Operation(
        "POST",
        "/api/v1/tokens",
        "Make a token",
        token_records.IssuedToken,
        201,
        body=token_records.TokenRequest,
        faults=(400, 413),
    ),
    Operation("GET", "/api/v1/tokens", "List tokens", token_records.ApiTokenList),
    Operation(
        "DELETE",
        "/api/v1/tokens/{token_id}",
        "Revoke a token",
        token_records.ApiToken,
        faults=(404,),
    ),
    Operation("GET", "/health/live", "Whether the manager lives", Health, token=None),
    Operation("GET", "/health/ready", "Whether the manager can work", Readiness, token=None),
    Operation("GET", "/metrics", "Metrics for Prometheus", "text/plain"),
    Operation("GET", "/api/v1/openapi.json", "This description", dict[str, Any]),
)
