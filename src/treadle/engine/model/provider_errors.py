"""What a provider's failures mean: from its evidence to a `ModelError`.

One place decides the message, the protocol's `codexErrorInfo`, the failure kind and whether the
request or the whole exchange may be tried again. The table follows codex 0.169.0; texts are
Treadle's own and keep the provider's reason in sight. Pure: no HTTP library, no clock.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, cast

import msgspec

from treadle.domain.failures import FailureKind
from treadle.domain.turns import ErrorInfo
from treadle.engine.model.model_client import ModelError

BODY_LIMIT_CHARS = 2000
"""How much of an error body is shown; more is an HTML page, not a reason."""

_CONTEXT_TEXT = (
    "Treadle ran out of room in the model's context window. "
    "Compact the thread or start a new one before retrying."
)
_CAPACITY_TEXT = "The selected model is at capacity. Try again later or choose another model."
_QUOTA_TEXT = "Quota exceeded. Check plan and billing of the account at the provider."
_PLAN_TEXT = "The account's plan does not include this model. Change the plan or the provider."

_TRY_AGAIN = r"(?i)try again in\s*(\d+(?:\.\d+)?)\s*(ms|s|seconds?)\b"
_HOPELESS = frozenset({402, 405, 413, 415, 422})
"""Statuses that the same request gets again for certain."""


class HttpAnswer(msgspec.Struct, frozen=True):
    """An HTTP answer other than 200, as far as it was read."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    url: str
    """Without its query, which may carry keys."""

    @property
    def status_text(self) -> str:
        """Such as `502 Bad Gateway`."""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)


class _Reason(msgspec.Struct, frozen=True):
    """The `error` object of a JSON body, or the body's text."""

    message: str
    code: str | None = None
    type: str | None = None
    resets_at: float | None = None

    @property
    def names(self) -> tuple[str | None, str | None]:
        return self.code, self.type


def http_failure(answer: HttpAnswer) -> ModelError:
    """The failure that an HTTP answer other than 200 stands for."""
    reason = _reason(answer.body)
    status, info = answer.status, _with_status("httpConnectionFailed", answer.status)
    named = _named_http_failure(answer, reason)
    if named is not None:
        return named
    if status == HTTPStatus.BAD_REQUEST:
        return ModelError(
            reason.message or answer.status_text,
            kind=FailureKind.PROVIDER_HTTP_ERROR,
            http_status=status,
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _too_many_requests(answer, reason)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        info = "internalServerError"
    server_side = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    text = f": {reason.message}" if reason.message else ""
    return ModelError(
        f"unexpected status {answer.status_text}{text}, url: {answer.url}",
        info=info,
        kind=_kind_of_status(status),
        retry_request=server_side,
        retry_stream=status >= HTTPStatus.BAD_REQUEST and status not in _HOPELESS,
        retry_after_seconds=_retry_after(answer.headers) if server_side else None,
        http_status=status,
    )


def _named_http_failure(answer: HttpAnswer, reason: _Reason) -> ModelError | None:
    """Failures that the body names by code or type, whatever else the status says."""
    status, names = answer.status, reason.names
    if status == HTTPStatus.BAD_REQUEST and "context_length_exceeded" in names:
        return _context_exceeded(status)
    if status == HTTPStatus.TOO_MANY_REQUESTS and "usage_limit_reached" in names:
        return _final(_usage_text(reason), "usageLimitExceeded", _LIMITED, status, reason.message)
    if status == HTTPStatus.TOO_MANY_REQUESTS and "usage_not_included" in names:
        return _final(_PLAN_TEXT, "usageLimitExceeded", _LIMITED, status, reason.message)
    if status == HTTPStatus.TOO_MANY_REQUESTS and "insufficient_quota" in names:
        return _final(_QUOTA_TEXT, "usageLimitExceeded", _LIMITED, status, reason.message)
    if status == HTTPStatus.SERVICE_UNAVAILABLE and "server_is_overloaded" in names:
        return ModelError(
            _CAPACITY_TEXT,
            info="serverOverloaded",
            kind=FailureKind.PROVIDER_UNAVAILABLE,
            retry_request=True,
            http_status=status,
            details=reason.message or None,
        )
    return None


def _too_many_requests(answer: HttpAnswer, reason: _Reason) -> ModelError:
    wait = _retry_after(answer.headers)
    return ModelError(
        f"exceeded retry limit, last status: {answer.status_text}",
        info=_with_status("responseTooManyFailedAttempts", answer.status),
        kind=FailureKind.PROVIDER_RATE_LIMITED,
        # Without a named wait a retry only makes it worse.
        retry_stream=wait is not None,
        retry_after_seconds=wait,
        http_status=answer.status,
        details=reason.message or None,
    )


def stream_failure(error: Any) -> ModelError:
    """The failure that `response.failed` reports in its `error` object."""
    reason = _reason_of(error)
    message = reason.message or "the provider gave no reason"
    match reason.code:
        case "context_length_exceeded":
            return _context_exceeded(None)
        case "insufficient_quota":
            return _final(_QUOTA_TEXT, "usageLimitExceeded", _LIMITED, None, message)
        case "usage_not_included":
            return _final(_PLAN_TEXT, "usageLimitExceeded", _LIMITED, None, message)
        case "invalid_prompt":
            return _final(message, "other", FailureKind.PROVIDER_HTTP_ERROR)
        case "cyber_policy":
            return _final(message, "cyberPolicy", FailureKind.PROVIDER_HTTP_ERROR)
        case "server_is_overloaded":
            kind = FailureKind.PROVIDER_UNAVAILABLE
            return _final(_CAPACITY_TEXT, "serverOverloaded", kind, None, message)
        case "rate_limit_exceeded" | "slow_down":
            return ModelError(
                f"rate limit exceeded: {message}",
                info="rateLimitExceeded",
                kind=FailureKind.PROVIDER_RATE_LIMITED,
                retry_stream=True,
                retry_after_seconds=_wait_in_text(message),
            )
        case _:
            return broken_stream(message)


def incomplete_failure(reason: str) -> ModelError:
    """The failure that `response.incomplete` reports."""
    text = f"Incomplete response returned, reason: {reason}"
    if reason == "max_output_tokens":
        return _final(text, "other", FailureKind.PROVIDER_HTTP_ERROR)
    return broken_stream(text)


def broken_stream(detail: str) -> ModelError:
    """The exchange ended before the response was complete; `detail` says how."""
    return ModelError(
        f"stream disconnected before completion: {detail}",
        kind=FailureKind.PROVIDER_STREAM_DISCONNECTED,
        retry_stream=True,
    )


def unreachable(url: str, detail: str) -> ModelError:
    """No connection came about: refused, not resolved, or not in time."""
    return ModelError(
        f"could not reach the provider at {url}: {detail}",
        info=_with_status("httpConnectionFailed", None),
        kind=FailureKind.PROVIDER_UNAVAILABLE,
        retry_request=True,
        retry_stream=True,
    )


def missing_key(variable: str, instructions: str | None) -> ModelError:
    """The environment variable that should hold the provider's key is not set."""
    text = f"Missing environment variable: `{variable}`."
    return _final(
        f"{text} {instructions}" if instructions else text,
        "other",
        FailureKind.PROVIDER_AUTH_FAILED,
    )


def bad_request_setting(detail: str) -> ModelError:
    """The provider's configuration cannot be made into an HTTP request."""
    return _final(
        f"the model provider's settings are unusable: {detail}",
        "badRequest",
        FailureKind.PROVIDER_HTTP_ERROR,
    )


_LIMITED = FailureKind.PROVIDER_RATE_LIMITED


def _final(
    message: str,
    info: ErrorInfo,
    kind: FailureKind,
    status: int | None = None,
    details: str | None = None,
) -> ModelError:
    return ModelError(message, info=info, kind=kind, http_status=status, details=details or None)


def _context_exceeded(status: int | None) -> ModelError:
    kind = FailureKind.PROVIDER_CONTEXT_EXCEEDED
    return _final(_CONTEXT_TEXT, "contextWindowExceeded", kind, status)


def _with_status(name: str, status: int | None) -> ErrorInfo:
    return {name: {"httpStatusCode": status}}


def _kind_of_status(status: int) -> FailureKind:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return FailureKind.PROVIDER_AUTH_FAILED
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return FailureKind.PROVIDER_UNAVAILABLE
    return FailureKind.PROVIDER_HTTP_ERROR


def _usage_text(reason: _Reason) -> str:
    text = "You've hit your usage limit."
    if reason.resets_at is None:
        return f"{text} Try again later."
    try:
        when = datetime.fromtimestamp(reason.resets_at, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{text} Try again later."
    return f"{text} Try again at {when:%Y-%m-%d %H:%M} UTC."


def _reason(body: bytes) -> _Reason:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Reason(body.decode("utf-8", "replace").strip()[:BODY_LIMIT_CHARS])
    if isinstance(decoded, dict):
        error = cast("dict[str, Any]", decoded).get("error")
        if isinstance(error, dict):
            return _reason_of(cast("dict[str, Any]", error))
    return _Reason(body.decode("utf-8", "replace").strip()[:BODY_LIMIT_CHARS])


def _reason_of(error: Any) -> _Reason:
    if not isinstance(error, dict):
        return _Reason("")
    raw = cast("dict[str, Any]", error)
    resets_at = raw.get("resets_at")
    return _Reason(
        message=str(raw.get("message") or "")[:BODY_LIMIT_CHARS],
        code=_text_or_none(raw.get("code")),
        type=_text_or_none(raw.get("type")),
        resets_at=float(resets_at) if isinstance(resets_at, int | float) else None,
    )


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _wait_in_text(message: str) -> float | None:
    found = re.search(_TRY_AGAIN, message)
    if found is None:
        return None
    amount = float(found[1])
    return amount / 1000 if found[2].lower() == "ms" else amount


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after`: a number, or a date measured from the answer's own."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            until = parsedate_to_datetime(value)
            seconds = (until - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
        except (TypeError, ValueError):
            return None
    return seconds if 0 <= seconds < float("inf") else None
