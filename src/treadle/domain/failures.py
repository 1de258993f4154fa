"""The closed vocabulary of what ends a turn, a command or a run badly.

One table for the engine, the runner and the control plane. Each kind says whether a retry can help,
who has to act, and what to do. Names are contract names (seed 004 and the control plane's design);
those of Treadle's own are marked. Knows nothing of how a failure was noticed: classification lives
with whoever sees the evidence.
"""

from enum import StrEnum

import msgspec


class FailureClass(StrEnum):
    """Who can mend it: time alone, the service's operator, or the user."""

    TRANSIENT = "transient"
    SERVICE = "service"
    USER = "user"


class FailureKind(StrEnum):
    """What went wrong, as stored in results and events under `failureKind`."""

    PROVIDER_AUTH_FAILED = "provider-auth-failed"
    SECRET_UNAVAILABLE = "secret-unavailable"
    PROVIDER_RATE_LIMITED = "provider-rate-limited"
    PROVIDER_STREAM_DISCONNECTED = "provider-stream-disconnected"
    PROVIDER_HTTP_ERROR = "provider-http-error"
    PROVIDER_UNAVAILABLE = "provider-unavailable"
    PROVIDER_INVALID_TOOL_CALL = "provider-invalid-tool-call"
    PROVIDER_COMPACT_UNSUPPORTED = "provider-compact-unsupported"
    BACKEND_RESPONSE_INVALID = "backend-response-invalid"
    BACKEND_JSON_PARSE_ERROR = "backend-json-parse-error"
    BACKEND_TIMEOUT = "backend-timeout"
    BACKEND_SPAWN_FAILED = "backend-spawn-failed"
    THREAD_RESUME_FAILED = "thread-resume-failed"
    SESSION_STORE_EVICTED = "session-store-evicted"
    CANCELLED = "cancelled"
    # Treadle's own
    LEASE_LOST = "lease-lost"
    RUNNER_CRASHED = "runner-crashed"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    PROVIDER_CONTEXT_EXCEEDED = "provider-context-exceeded"
    BUDGET_EXHAUSTED = "budget-exhausted"
    SUPERSEDED = "superseded"
    BACKEND_UNKNOWN = "backend-unknown"


class FailureFacts(msgspec.Struct, frozen=True):
    """What is always true of a kind."""

    failure_class: FailureClass
    retryable: bool
    remedy: str


_T, _S, _U = FailureClass.TRANSIENT, FailureClass.SERVICE, FailureClass.USER

FACTS: dict[FailureKind, FailureFacts] = {
    FailureKind.PROVIDER_AUTH_FAILED: FailureFacts(
        _U, False, "Replace the provider's key or token, then start the turn again."
    ),
    FailureKind.SECRET_UNAVAILABLE: FailureFacts(
        _U, False, "Provide the credential files that the run's backend profile names."
    ),
    FailureKind.PROVIDER_RATE_LIMITED: FailureFacts(
        _T, True, "Wait for the time the provider gave, or raise the account's limit."
    ),
    FailureKind.PROVIDER_STREAM_DISCONNECTED: FailureFacts(
        _T, True, "Retry; if it persists, check the network path to the provider."
    ),
    FailureKind.PROVIDER_HTTP_ERROR: FailureFacts(
        _S, True, "Retry later; if it persists, look at the provider's status and the request."
    ),
    FailureKind.PROVIDER_UNAVAILABLE: FailureFacts(
        _S, True, "Retry later, or choose another model or provider."
    ),
    FailureKind.PROVIDER_INVALID_TOOL_CALL: FailureFacts(
        _S, False, "The provider refused a tool call of its own model; try another model."
    ),
    FailureKind.PROVIDER_COMPACT_UNSUPPORTED: FailureFacts(
        _U, False, "Configure local compaction for this provider."
    ),
    FailureKind.BACKEND_RESPONSE_INVALID: FailureFacts(
        _S, True, "Retry once with a fresh backend; then report the answer it gave."
    ),
    FailureKind.BACKEND_JSON_PARSE_ERROR: FailureFacts(
        _S, True, "Check that nothing but the protocol writes to the backend's standard output."
    ),
    FailureKind.BACKEND_TIMEOUT: FailureFacts(
        _T, True, "Retry; raise executionPolicy.timeoutMs if the work is silent for long."
    ),
    FailureKind.BACKEND_SPAWN_FAILED: FailureFacts(
        _S, True, "Check the backend command's path and permissions on the runner's machine."
    ),
    FailureKind.THREAD_RESUME_FAILED: FailureFacts(
        _U, False, "The thread's history is gone; start a new run without a threadId."
    ),
    FailureKind.SESSION_STORE_EVICTED: FailureFacts(
        _S, False, "The session volume no longer holds the thread; restore it or start anew."
    ),
    FailureKind.CANCELLED: FailureFacts(_U, False, "Nothing: it was asked for."),
    FailureKind.LEASE_LOST: FailureFacts(
        _T, True, "Retry; look for a stalled or partitioned runner if it repeats."
    ),
    FailureKind.RUNNER_CRASHED: FailureFacts(
        _T, True, "Retry; look at the runner's log and memory limit if it repeats."
    ),
    FailureKind.DEADLINE_EXCEEDED: FailureFacts(_U, False, "Give the run a later deadline."),
    FailureKind.PROVIDER_CONTEXT_EXCEEDED: FailureFacts(
        _U, True, "Compact the thread, or start a new one."
    ),
    FailureKind.BUDGET_EXHAUSTED: FailureFacts(_U, False, "Raise the budget, then go on."),
    FailureKind.SUPERSEDED: FailureFacts(_U, False, "Nothing: a newer command took its place."),
    FailureKind.BACKEND_UNKNOWN: FailureFacts(
        _S, False, "Look at the evidence in the error event; report it if it is unclear."
    ),
}


class Failure(msgspec.Struct, frozen=True):
    """One failure that happened: its kind and the evidence, both fit to be shown and stored."""

    kind: FailureKind
    message: str
    retry_after_ms: int | None = None
    http_status: int | None = None

    @property
    def facts(self) -> FailureFacts:
        """Class, retryability and remedy of the kind."""
        return FACTS[self.kind]
