"""Faults as problem+json: the one place that decides what a caller may learn.

Every code is listed in `docs/control-api.md`. An exception that is not of the control plane's own
family leaves as one constant text with a log id.
"""

import logging
import re
from typing import Any

import msgspec
from starlette.responses import Response

from treadle.control.faults import (
    BadToken,
    ControlFault,
    CredentialMissing,
    DatabaseUnusable,
    EventsGone,
    Fenced,
    Forbidden,
    IdempotencyConflict,
    InvalidRequest,
    LeaseHeld,
    NotFound,
    Overloaded,
    ProducerGap,
    RunBusy,
    RunEnded,
    RunnerDraining,
    RunnerGone,
    Stopping,
)
from treadle.control.http.ingress import SHAPES
from treadle.kit.mint import new_id

logger = logging.getLogger(__name__)

RETRY_AFTER_MS = 500

_SIMPLE: dict[type[ControlFault], tuple[int, str]] = {
    CredentialMissing: (400, "provider-credential-missing"),
    BadToken: (401, "claim-token-invalid"),
    Forbidden: (403, "forbidden"),
    RunBusy: (409, "run-busy"),
    RunnerDraining: (409, "runner-draining"),
    RunnerGone: (409, "runner-gone"),
    IdempotencyConflict: (409, "idempotency-conflict"),
}

_TITLES = {
    400: "Invalid request",
    401: "Not authenticated",
    403: "Refused",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    413: "Body too large",
    500: "Internal error",
    503: "Try again later",
}


class HttpFault(ControlFault):
    """A refusal that only HTTP knows: authentication, body size, method."""

    def __init__(self, status: int, code: str, detail: str, **members: Any) -> None:
        """Keep status, stable code, text and extra members."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.members = members


def problem_of(error: Exception) -> Response:
    """The answer for a fault; logs what is not one of ours."""
    if isinstance(error, ControlFault):
        status, code, members = _describe(error)
        return problem(status, code, error.detail, **members)
    log_id = new_id()
    logger.error("request failed, log id %s", log_id, exc_info=error)
    return problem(
        500, "internal", "Something failed inside the manager; see its log.", logId=log_id
    )


def invalid_body(error: msgspec.MsgspecError) -> InvalidRequest:
    """A decoding error with the path of the field it is about."""
    text = str(error)
    match = re.fullmatch(r"(?P<what>.*) - at `(?P<path>.*)`", text, re.DOTALL)
    if match is None:
        return InvalidRequest(text, "$")
    return InvalidRequest(match["what"], match["path"])


def problem(status: int, code: str, detail: str, **members: Any) -> Response:
    """A problem+json response."""
    body = {
        "type": "about:blank",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": SHAPES.text(detail),
        "code": code,
        **members,
    }
    headers: dict[str, str] = {}
    if "retryAfterMs" in members:
        headers["Retry-After"] = str(max(1, -(-int(members["retryAfterMs"]) // 1000)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


def _describe(fault: ControlFault) -> tuple[int, str, dict[str, Any]]:
    match fault:
        case HttpFault():
            return fault.status, fault.code, fault.members
        case InvalidRequest():
            return 400, "invalid-request", {"path": fault.path} if fault.path else {}
        case EventsGone():
            return 410, "events-gone", {"minSeq": fault.min_seq}
        case NotFound():
            return 404, f"{fault.thing}-not-found", {}
        case Overloaded() | Stopping() | DatabaseUnusable():
            code = "stopping" if isinstance(fault, Stopping) else "overloaded"
            return 503, code, {"retryAfterMs": RETRY_AFTER_MS}
        case LeaseHeld() | Fenced() | ProducerGap() | RunEnded():
            return _describe_lease(fault)
        case _:
            status, code = _SIMPLE.get(type(fault), (400, "invalid-request"))
            return status, code, {}


def _describe_lease(
    fault: LeaseHeld | Fenced | ProducerGap | RunEnded,
) -> tuple[int, str, dict[str, Any]]:
    match fault:
        case LeaseHeld():
            members = {"claimedBy": fault.claimed_by, "retryAfterMs": fault.retry_after_ms}
            return 409, "lease-held", members
        case Fenced():
            return 409, "fenced", {"epoch": fault.epoch}
        case ProducerGap():
            return 409, "producer-seq-gap", {"expected": fault.expected}
        case RunEnded():
            return 409, "terminal", {"terminalStatus": fault.terminal_status}
