"""Which failure the words of a backend stand for."""

from typing import Any

import pytest

from treadle.domain.failures import FailureKind
from treadle.runner.classify import Origin, classify

T, R, P = Origin.TERMINAL, Origin.RPC_ERROR, Origin.RETRY


def info(name: str, status: int | None = None) -> dict[str, Any]:
    return {name: {"httpStatusCode": status}}


CASES: list[tuple[Origin, str, Any, str]] = [
    (T, "unexpected status 401 Unauthorized: bad key", "other", "provider-auth-failed"),
    (T, "gone", info("responseStreamDisconnected", 403), "provider-auth-failed"),
    (T, "no", "unauthorized", "provider-auth-failed"),
    (T, "last status: 429 Too Many Requests", info("responseTooManyFailedAttempts", 429),
     "provider-rate-limited"),
    (T, "You've hit your usage limit.", "usageLimitExceeded", "provider-rate-limited"),
    (P, "Rate limit reached, try again", None, "provider-rate-limited"),
    (T, "remote compact task: status 404 Not Found, url: x/compact", None,
     "provider-compact-unsupported"),
    (T, "unexpected status 404 Not Found", info("httpConnectionFailed", 404),
     "provider-http-error"),
    (T, "unexpected status 400 Bad Request: Invalid tool call", None,
     "provider-invalid-tool-call"),
    (T, "ran out of room", "contextWindowExceeded", "provider-context-exceeded"),
    (T, "budget", "sessionBudgetExceeded", "budget-exhausted"),
    (T, "Stopped: budget-exhausted: modelCalls 4 of 4", "usageLimitExceeded", "budget-exhausted"),
    (T, "cut", info("responseStreamDisconnected"), "provider-stream-disconnected"),
    (R, "stream disconnected before completion", None, "provider-stream-disconnected"),
    (R, "unexpected status 503 Service Unavailable", None, "provider-stream-disconnected"),
    (P, "unexpected status 503 Service Unavailable", None, "provider-stream-disconnected"),
    (T, "error sending request: Connection refused (os error 111)", None,
     "provider-stream-disconnected"),
    (T, "unexpected status 503 Service Unavailable", info("httpConnectionFailed", 503),
     "provider-http-error"),
    (T, "The provider is currently unavailable.", None, "provider-unavailable"),
    (T, "busy", "serverOverloaded", "provider-unavailable"),
    (T, "hm", "internalServerError", "provider-http-error"),
    (T, "something nobody foresaw", "other", "backend-unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("origin", "message", "said", "kind"), CASES)
def test_an_error_is_classified(origin: Origin, message: str, said: Any, kind: str) -> None:
    error = {"message": message, "codexErrorInfo": said, "additionalDetails": None}
    assert classify(origin, error).kind == kind


def test_details_outrank_the_servers_own_kind() -> None:
    error = {
        "message": "Reconnecting... 2/5",
        "codexErrorInfo": info("responseStreamDisconnected"),
        "additionalDetails": "unexpected status 401 Unauthorized",
    }
    failure = classify(Origin.RETRY, error)
    assert (failure.kind, failure.http_status) == (FailureKind.PROVIDER_AUTH_FAILED, 401)


def test_the_data_of_an_rpc_error_counts_as_evidence() -> None:
    error = {"code": -32603, "message": "failed", "data": {"codexErrorInfo": "usageLimitExceeded"}}
    assert classify(Origin.RPC_ERROR, error).kind is FailureKind.PROVIDER_RATE_LIMITED


@pytest.mark.parametrize(
    ("volume", "message", "kind"),
    [
        (False, "no rollout found for thread id x", FailureKind.THREAD_RESUME_FAILED),
        (True, "no rollout found for thread id x", FailureKind.SESSION_STORE_EVICTED),
        (True, "thread x already has an active writer", FailureKind.THREAD_RESUME_FAILED),
        (False, "internal", FailureKind.THREAD_RESUME_FAILED),
    ],
)
def test_a_failed_resume_is_never_anything_else(
    volume: bool, message: str, kind: FailureKind
) -> None:
    error = {"code": -32600, "message": message}
    assert classify(Origin.RESUME, error, has_session_volume=volume).kind is kind


@pytest.mark.parametrize("error", [None, "", {}, 5, {"message": 7}])
def test_an_error_without_words_still_has_a_kind_and_a_text(error: Any) -> None:
    failure = classify(Origin.TERMINAL, error)
    assert failure.kind is FailureKind.BACKEND_UNKNOWN
    assert failure.message
