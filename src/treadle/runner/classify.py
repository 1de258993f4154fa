"""From the evidence of a failure to its kind: an ordered table, the first match wins.

Evidence is what the backend said: an RPC error, an `error` notification, a failed turn. Pure; knows
no process and no clock. Two traps decided the order: a provider's status in the text outranks the
app-server's own error kind, and a retry announced is a cut stream, since the backend still tries.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from treadle.domain.failures import Failure, FailureKind

MESSAGE_LIMIT_CHARS = 2000


class Origin(StrEnum):
    """Where a failure showed."""

    RPC_ERROR = "rpc-error"
    TERMINAL = "terminal"
    RETRY = "retry"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one failure."""

    origin: Origin
    text: str
    """Message and details, in lower case."""
    info: str
    """The app-server's own kind, empty when it named none."""
    status: int | None
    """HTTP status of the provider."""
    has_session_volume: bool = False


_STATUS_NAMED = re.compile(
    r"(?:status|http|code|error)[^0-9a-z]{0,4}(?:code[^0-9]{0,3})?([45]\d\d)\b"
)
_STATUS_WORDED = re.compile(
    r"\b([45]\d\d) (?:bad request|unauthorized|forbidden|not found|too many requests|"
    r"internal server error|bad gateway|service unavailable|gateway timeout)"
)
_WORDS_FOR_STATUS = {"unauthorized": 401, "too many requests": 429}
_CUT = re.compile(
    r"stream (?:was )?(?:disconnected|closed|error)|connection (?:refused|reset|closed|aborted)|"
    r"error sending request|broken pipe|unexpected eof|reconnecting"
)
_TOOL_CALL = re.compile(
    r"invalid (?:tool|function)[ _-]?call|"
    r"(?:tool|function)[ _-]?call[^.]{0,60}(?:invalid|malformed|reject)|"
    r"tool_call_id|no tool (?:output|call) found"
)
_NO_THREAD = re.compile(
    r"no rollout|thread not found|not loaded|no such (?:thread|file)|does not exist"
)
_CUT_INFO = frozenset(
    {"responseStreamDisconnected", "responseStreamConnectionFailed", "httpConnectionFailed"}
)


def _is_cut(e: Evidence) -> bool:
    if e.origin is Origin.RETRY or e.info in {
        "responseStreamDisconnected",
        "responseStreamConnectionFailed",
    }:
        return True
    if e.origin is Origin.RPC_ERROR and e.status == 503:
        return True
    if e.status is not None:
        return False
    return e.info in _CUT_INFO or _found(_CUT, e)


def _found(pattern: re.Pattern[str], e: Evidence) -> bool:
    return pattern.search(e.text) is not None


Rule = tuple[Callable[[Evidence], bool], FailureKind]

_TABLE: tuple[Rule, ...] = (
    (
        lambda e: e.origin is Origin.RESUME and e.has_session_volume and _found(_NO_THREAD, e),
        FailureKind.SESSION_STORE_EVICTED,
    ),
    (lambda e: e.origin is Origin.RESUME, FailureKind.THREAD_RESUME_FAILED),
    (
        # What Treadle's own app-server says in a turn's details.
        lambda e: e.info == "sessionBudgetExceeded" or str(FailureKind.BUDGET_EXHAUSTED) in e.text,
        FailureKind.BUDGET_EXHAUSTED,
    ),
    (
        lambda e: e.status in {401, 403} or e.info == "unauthorized",
        FailureKind.PROVIDER_AUTH_FAILED,
    ),
    (
        lambda e: (
            e.status == 429
            or e.info in {"usageLimitExceeded", "rateLimitExceeded"}
            or "rate limit" in e.text
        ),
        FailureKind.PROVIDER_RATE_LIMITED,
    ),
    (
        lambda e: e.status == 404 and "compact" in e.text,
        FailureKind.PROVIDER_COMPACT_UNSUPPORTED,
    ),
    (lambda e: _found(_TOOL_CALL, e), FailureKind.PROVIDER_INVALID_TOOL_CALL),
    (
        lambda e: e.info == "contextWindowExceeded" or "context_length_exceeded" in e.text,
        FailureKind.PROVIDER_CONTEXT_EXCEEDED,
    ),
    (_is_cut, FailureKind.PROVIDER_STREAM_DISCONNECTED),
    (lambda e: e.status is not None, FailureKind.PROVIDER_HTTP_ERROR),
    (
        lambda e: (
            e.info in {"serverOverloaded", "flexUnavailable", "policyCapacityUnavailable"}
            or "unavailable" in e.text
            or "overloaded" in e.text
        ),
        FailureKind.PROVIDER_UNAVAILABLE,
    ),
    (
        lambda e: e.info in {"internalServerError", "badRequest", "modelNotFound"},
        FailureKind.PROVIDER_HTTP_ERROR,
    ),
)


def classify(origin: Origin, error: Any, *, has_session_volume: bool = False) -> Failure:
    """The failure that `error` tells of.

    Args:
        origin: where it showed.
        error: a turn's error object, the error of an RPC answer, or anything else that was said.
        has_session_volume: a session volume is configured, so a missing thread was lost there.
    """
    evidence, message = _read(origin, error, has_session_volume)
    for matches, kind in _TABLE:
        if matches(evidence):
            return Failure(kind, message, http_status=evidence.status)
    return Failure(FailureKind.BACKEND_UNKNOWN, message, http_status=evidence.status)


def _read(origin: Origin, error: Any, has_session_volume: bool) -> tuple[Evidence, str]:
    if not isinstance(error, dict):
        message = str(error or "The backend gave no reason.")
        return _evidence(origin, message, None, has_session_volume), message[:MESSAGE_LIMIT_CHARS]
    fields = cast("dict[str, Any]", error)
    inner = _members(fields.get("data"))
    parts = [fields.get("message"), fields.get("additionalDetails"), inner.get("message")]
    texts = list(dict.fromkeys(part for part in parts if isinstance(part, str) and part))
    message = ": ".join(texts) or "The backend gave no reason."
    info = fields.get("codexErrorInfo", inner.get("codexErrorInfo"))
    return _evidence(origin, message, info, has_session_volume), message[:MESSAGE_LIMIT_CHARS]


def _evidence(origin: Origin, message: str, info: Any, has_session_volume: bool) -> Evidence:
    text = message.lower()
    name, status = _info_parts(info)
    return Evidence(origin, text, name, status or _status_in(text), has_session_volume)


def _info_parts(info: Any) -> tuple[str, int | None]:
    if isinstance(info, str):
        return info, None
    kinds = _members(info)
    if kinds:
        name, details = next(iter(kinds.items()))
        status = _members(details).get("httpStatusCode")
        return name, status if isinstance(status, int) else None
    return "", None


def _members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _status_in(text: str) -> int | None:
    for pattern in (_STATUS_NAMED, _STATUS_WORDED):
        if match := pattern.search(text):
            return int(match.group(1))
    return next((status for words, status in _WORDS_FOR_STATUS.items() if words in text), None)
