"""Pure decisions of the control plane: who may claim, what may be appended, what is admitted.

Facts in, decision out; no clock, no database. Times are milliseconds of the database's clock.
Effects of events on commands and runs are in `fold`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from treadle.control import requests
from treadle.control.faults import CredentialMissing, InvalidRequest
from treadle.control.placed import GivenUp
from treadle.control.records import (
    CLOSED_STATES,
    DEFAULT_MAX_ATTEMPTS,
    MAX_COMMAND_PAYLOAD_BYTES,
    MAX_LEASE_MS,
    MIN_LEASE_MS,
    CommandRequest,
    CommandType,
    ExecutionPolicy,
    RunRequest,
    RunSpec,
    SessionRef,
    TerminalStatus,
)
from treadle.domain.failures import FailureKind

# Seed contract: a run of one of these always names its credential once it has a secret scope.
CONTRACT_PROFILES = frozenset({"codex", "deepseek", "minimax-m3", "dsflash-go"})

NAME_LIMIT = 200
MAX_EXPIRY_MS = 30 * 24 * 3600 * 1000

# Phases of `backend_status` by what they do; the effects themselves are in `fold`.
COMMAND_PHASES = frozenset(
    {"command-acknowledged", "interrupt-command-acknowledged", "command-terminal"}
)
TERMINAL_PHASES = frozenset({"command-terminal", "run-terminal"})
MANAGER_PHASES = frozenset(
    {
        "run-created",
        "command-created",
        "run-claimed",
        "run-released",
        "run-lease-expired",
        "run-placement-failed",
        "runner-claim-waiting-for-stale-lease",
        "runner-claim-recovered",
    }
)


class Loss(msgspec.Struct, frozen=True):
    """Why a lease is taken away: the word for its end, the failure it is, and that in words."""

    end: str
    kind: FailureKind
    message: str


SILENCE = Loss(
    "expired", FailureKind.LEASE_LOST, "The runner was not heard of for the time of its lease."
)
LOST_ENDS = frozenset({"expired", "gone"})
"""Ends of a lease that was lost rather than given back."""


def runner_gone(reason: str | None, kind: FailureKind = FailureKind.RUNNER_CRASHED) -> Loss:
    """The loss of a lease whose runner was seen to be gone; `reason` says how, as in a report."""
    how = f": {reason}" if reason else ""
    return Loss("gone", kind, f"The runner is gone{how}.")


class LeaseFacts(msgspec.Struct, frozen=True):
    """Who holds a run and what they have written; `runner_id` is None when nobody does."""

    epoch: int
    runner_id: str | None
    attempt_id: str | None
    lease_until_ms: int
    producer_seq: int
    last_end: str | None
    ended: bool


class Grant(msgspec.Struct, frozen=True):
    """The claim is given; `recovered` when it follows a lease that was lost."""

    reason: str

    @property
    def recovered(self) -> bool:
        """Whether the lease before was lost rather than given back."""
        return self.reason in LOST_ENDS


class Held(msgspec.Struct, frozen=True):
    """Another lease is live for `remaining_ms` more."""

    by: str
    remaining_ms: int


class Ended(msgspec.Struct, frozen=True):
    """The run has ended."""


def decide_claim(
    facts: LeaseFacts, runner_id: str, attempt_id: str | None, now_ms: int
) -> Grant | Held | Ended:
    """Whether this runner gets the run now, and why.

    A live lease yields only to the same runner with the same attempt (its answer was lost); the
    epoch then rises all the same, so that of two such processes one is fenced.
    """
    if facts.ended:
        return Ended()
    if facts.runner_id is None:
        return Grant("first" if facts.epoch == 0 else facts.last_end or "released")
    if facts.lease_until_ms <= now_ms:
        return Grant("expired")
    if facts.runner_id == runner_id and facts.attempt_id == attempt_id:
        return Grant("reclaimed")
    return Held(facts.runner_id, facts.lease_until_ms - now_ms)


class Accept(msgspec.Struct, frozen=True):
    """Append, leaving out the first `skip` events, which are known already."""

    skip: int


class Duplicate(msgspec.Struct, frozen=True):
    """All of it is known already."""


class Gap(msgspec.Struct, frozen=True):
    """Events from `expected` on are missing."""

    expected: int


class Stale(msgspec.Struct, frozen=True):
    """The epoch is over, or its lease was taken away."""


def decide_append(
    facts: LeaseFacts, epoch: int, first: int, count: int
) -> Accept | Duplicate | Gap | Stale | Ended:
    """What to do with `count` events from producer seq `first` of `epoch`.

    A batch known already is acknowledged again even after the end of the run or a release: the
    answer may have been lost. A lapsed lease that nobody took away still writes, since no other
    holder can exist then.
    """
    if epoch != facts.epoch or epoch == 0:
        return Stale()
    last = first + count - 1
    if last <= facts.producer_seq:
        return Duplicate()
    if facts.ended:
        return Ended()
    if facts.runner_id is None:
        return Stale()
    if first > facts.producer_seq + 1:
        return Gap(facts.producer_seq + 1)
    return Accept(facts.producer_seq + 1 - first)


def decide_lapse(facts: LeaseFacts, losses: int, max_attempts: int, now_ms: int) -> str | None:
    """What the sweeper does with a lease: None (live), `requeue`, or `fail` after the last loss."""
    if facts.ended or facts.runner_id is None or facts.lease_until_ms > now_ms:
        return None
    return "fail" if losses + 1 >= max_attempts else "requeue"


def decide_given_up(facts: LeaseFacts, given_up: GivenUp) -> str | None:
    """What becomes of a run whose placed runner comes to nothing: None, `count` or `end`.

    It counts once, and only while nobody has the run and no later attempt has begun. Once claimed,
    an attempt's losses are those of its lease; that it was the last one can still be said.
    """
    if facts.ended or facts.runner_id is not None:
        return None
    if facts.epoch + 1 == given_up.epoch:
        return "count"
    return "end" if facts.epoch == given_up.epoch and given_up.ends_the_run else None


def check_status_event(
    payload: dict[str, Any], command_id: str | None, known: Callable[[str], bool], path: str
) -> None:
    """Refuse a runner's `backend_status` that would change state in a way that has no meaning.

    `known` tells whether the run ever had a command of that id; `path` names the event.

    Raises:
        InvalidRequest: unknown command, state, status or failure kind; or a phase that only the
            manager writes.
    """
    phase = payload.get("phase")
    if not isinstance(phase, str):
        return
    if phase in MANAGER_PHASES:
        raise InvalidRequest(f"Only the manager writes the phase {phase}.", f"{path}.payload.phase")
    if phase == requests.OPENED:
        requests.check_opened(payload, path)
    if phase in COMMAND_PHASES:
        named = command_id or payload.get("commandId")
        if not isinstance(named, str) or not known(named):
            raise InvalidRequest("No such command in this run.", f"{path}.commandId")
    if phase == "command-terminal":
        _check_word(payload, "state", CLOSED_STATES, path)
    if phase == "run-terminal":
        _check_word(payload, "terminalStatus", frozenset(TerminalStatus), path)
    if phase in TERMINAL_PHASES and payload.get("failureKind") is not None:
        _check_word(payload, "failureKind", frozenset(FailureKind), path)


def make_spec(request: RunRequest) -> RunSpec:
    """Fill in defaults and check what types cannot say.

    Raises:
        InvalidRequest: a value is out of bounds.
        CredentialMissing: the secret scope lacks the profile's credential.
    """
    policy = request.execution_policy or ExecutionPolicy()
    spec = RunSpec(
        tenant_id=_named(request.tenant_id, "default", "$.tenantId"),
        project_id=_named(request.project_id, "default", "$.projectId"),
        workspace_ref=request.workspace_ref,
        session_ref=request.session_ref or SessionRef(),
        provider_id=request.provider_id,
        backend_profile=_named(request.backend_profile, "codex", "$.backendProfile"),
        execution_policy=policy,
        trace_sink=request.trace_sink,
        labels=request.labels or {},
        busy_policy=request.busy_policy or "enqueue",
        max_attempts=_within(
            request.max_attempts, DEFAULT_MAX_ATTEMPTS, (1, 1000), "$.maxAttempts"
        ),
        placement=request.placement or "process",
    )
    if policy.timeout_ms is not None and policy.timeout_ms < 1:
        raise InvalidRequest(
            "timeoutMs must be at least 1 (milliseconds).", "$.executionPolicy.timeoutMs"
        )
    check_credentials(spec)
    return spec


def check_credentials(spec: RunSpec) -> None:
    """Refuse a run whose secret scope cannot serve its profile; there is no fall-back profile.

    Raises:
        CredentialMissing: see `docs/control-api.md`, section 3.
    """
    scope = spec.execution_policy.secret_scope
    profile = spec.backend_profile
    if scope is None:
        return
    if scope.provider_credentials is None and profile not in CONTRACT_PROFILES:
        return
    given = [credential.profile for credential in scope.provider_credentials or []]
    if profile not in given:
        raise CredentialMissing(
            f"backendProfile {profile} requires a matching provider credential in "
            "executionPolicy.secretScope.providerCredentials; add one with this profile."
        )


def lease_or_default(lease_ms: int | None, default_ms: int) -> int:
    """The lease a claim asks for, in milliseconds; raises InvalidRequest out of bounds."""
    return _within(lease_ms, default_ms, (MIN_LEASE_MS, MAX_LEASE_MS), "$.leaseMs")


def check_command(request: CommandRequest) -> bytes:
    """The payload to store, checked for the command's type.

    Raises:
        InvalidRequest: the payload is too large or lacks what the type needs, or a command other
            than a turn is to expire: the others are carried out as soon as a runner has them.
    """
    if request.expires_in_ms is not None:
        if request.type != CommandType.TURN:
            raise InvalidRequest("Only a turn can expire; leave it out.", "$.expiresInMs")
        _within(request.expires_in_ms, 0, (1, MAX_EXPIRY_MS), "$.expiresInMs")
    payload: dict[str, Any] = request.payload or {}
    _check_payload(request.type, payload)
    encoded = msgspec.json.encode(payload)
    if len(encoded) > MAX_COMMAND_PAYLOAD_BYTES:
        raise InvalidRequest(
            f"The payload has {len(encoded)} bytes; at most {MAX_COMMAND_PAYLOAD_BYTES} fit.",
            "$.payload",
        )
    return encoded


def _check_payload(command_type: CommandType, payload: dict[str, Any]) -> None:
    if command_type in {CommandType.TURN, CommandType.STEER}:
        prompt = payload.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise InvalidRequest(
                f"A {command_type} needs a prompt that is not empty.", "$.payload.prompt"
            )
    if command_type == CommandType.ANSWER:
        for field in ("requestId", "decision"):
            if not payload.get(field):
                raise InvalidRequest(f"An answer needs its {field}.", f"$.payload.{field}")
    for field in ("model", "reason", "commandId", "requestId", "decision"):
        if not isinstance(payload.get(field), str | None):
            raise InvalidRequest(f"{field} must be a string.", f"$.payload.{field}")


def _check_word(payload: dict[str, Any], field: str, words: frozenset[Any], path: str) -> None:
    value = payload.get(field)
    if not isinstance(value, str) or value not in words:
        allowed = ", ".join(sorted(words))
        raise InvalidRequest(f"{field} must be one of: {allowed}.", f"{path}.payload.{field}")


def _named(value: str | None, default: str, path: str) -> str:
    if value is None:
        return default
    if not value or len(value) > NAME_LIMIT:
        raise InvalidRequest(f"Give 1 to {NAME_LIMIT} characters.", path)
    return value


def _within(value: int | None, default: int, bounds: tuple[int, int], path: str) -> int:
    if value is None:
        return default
    low, high = bounds
    if not low <= value <= high:
        raise InvalidRequest(f"{value} is not between {low} and {high}.", path)
    return value
