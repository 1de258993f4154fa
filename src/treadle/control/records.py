"""The control plane's records: what is asked, stored and answered.

Plain data in camelCase as `docs/control-api.md` describes it. Knows no rule, no database and no
HTTP. Fields that readers compare with null are always written; requests accept null for absent.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

DEFAULT_LEASE_MS = 15_000
MIN_LEASE_MS = 100
MAX_LEASE_MS = 600_000
DEFAULT_MAX_ATTEMPTS = 5
MAX_EVENTS_PER_APPEND = 500
MAX_COMMAND_PAYLOAD_BYTES = 256 * 1024

# Whole numbers that every JSON reader and database keeps exactly.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
BusyPolicy = Literal["enqueue", "reject", "interrupt", "steer"]
Placement = Literal["process", "kubernetes-job"]


class CommandType(StrEnum):
    """What a client may ask of a run."""

    TURN = "turn"
    INTERRUPT = "interrupt"
    CANCEL = "cancel"
    CLOSE = "close"
    STEER = "steer"
    ANSWER = "answer"


class CommandState(StrEnum):
    """Where a command stands; all but the first two are closed and final."""

    PENDING = "pending"
    DELIVERED = "delivered"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


CLOSED_STATES = frozenset(CommandState) - {CommandState.PENDING, CommandState.DELIVERED}


class TerminalStatus(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


class Body(msgspec.Struct, rename="camel"):
    """Base of everything that travels as JSON."""


class Value(msgspec.Struct, rename="camel", frozen=True):
    """Base of parts of a body that never change."""


class SessionRef(Value, frozen=True):
    """The durable agent thread that a run continues."""

    session_id: str | None = None
    conversation_id: str | None = None
    thread_id: str | None = None


class WorkspaceRef(Value, frozen=True):
    """Where the agent works."""

    path: str
    kind: str = "host-path"


class SecretRef(Value, frozen=True):
    """Names a secret; never holds one."""

    name: str
    keys: list[str] = []
    mount_path: str | None = None


class ProviderCredential(Value, frozen=True):
    """The credential of one backend profile."""

    profile: str
    secret_ref: SecretRef


class SecretScope(Value, frozen=True):
    """Which credentials a run may use."""

    allow_credential_echo: bool = False
    provider_credentials: list[ProviderCredential] | None = None


class ExecutionPolicy(Value, frozen=True):
    """How the agent may act; `timeout_ms` is the turn's idle deadline.

    `answer_timeout_ms` is how long a question of the agent waits for an `answer` command, and
    `answer_default` the decision after that. Null: an hour where `approval` lets the agent ask,
    else no time at all; `decline`.
    """

    sandbox: str | None = None
    approval: str | None = None
    timeout_ms: Count | None = None
    answer_timeout_ms: Count | None = None
    answer_default: Literal["decline", "cancel", "accept"] | None = None
    network: str | None = None
    secret_scope: SecretScope | None = None


class RunRequest(Body):
    """Body of `POST /api/v1/runs`."""

    tenant_id: str | None = None
    project_id: str | None = None
    workspace_ref: WorkspaceRef | None = None
    session_ref: SessionRef | None = None
    provider_id: str | None = None
    backend_profile: str | None = None
    execution_policy: ExecutionPolicy | None = None
    trace_sink: Any = None
    labels: dict[str, str] | None = None
    busy_policy: BusyPolicy | None = None
    max_attempts: int | None = None
    placement: Placement | None = None
    idempotency_key: str | None = None


class RunSpec(Value, frozen=True, omit_defaults=True):
    """What a run was asked to be; never changes. As stored it lacks what has its default."""

    tenant_id: str
    project_id: str
    workspace_ref: WorkspaceRef | None
    session_ref: SessionRef
    provider_id: str | None
    backend_profile: str
    execution_policy: ExecutionPolicy
    trace_sink: Any
    labels: dict[str, str]
    busy_policy: BusyPolicy
    max_attempts: int
    placement: Placement = "process"


class PendingRequest(Value, frozen=True):
    """A question of the agent that waits for an `answer` command; details are in event `seq`."""

    id: str
    command_id: str | None
    kind: str
    method: str
    summary: str
    decisions: list[str]
    expires_at: str | None
    seq: int


class Run(Body):
    """A run as clients see it."""

    id: str
    tenant_id: str
    project_id: str
    workspace_ref: WorkspaceRef | None
    session_ref: SessionRef
    provider_id: str | None
    backend_profile: str
    execution_policy: ExecutionPolicy
    trace_sink: Any
    labels: dict[str, str]
    busy_policy: str
    max_attempts: int
    placement: str
    status: str
    terminal_status: str | None
    failure_kind: str | None
    failure_message: str | None
    pending_requests: list[PendingRequest]
    claimed_by: str | None
    epoch: int
    attempt: int
    lease_remaining_ms: int | None
    last_seq: int
    cmd_last: int
    created_at: str
    updated_at: str


class CommandRequest(Body):
    """Body of `POST /api/v1/runs/{runId}/commands`."""

    type: CommandType
    payload: dict[str, Any] | None = None
    expires_in_ms: int | None = None
    idempotency_key: str | None = None


class Command(Body):
    """A command as clients and runners see it."""

    id: str
    run_id: str
    cmd_seq: int
    type: str
    payload: msgspec.Raw
    state: str
    target_command_id: str | None
    terminal_status: str | None
    failure_kind: str | None
    failure_message: str | None
    delivered_epoch: int | None
    created_at: str
    expires_at: str | None
    closed_at: str | None


def _empty_object() -> msgspec.Raw:
    return msgspec.Raw(b"{}")


class NewEvent(Body):
    """One event as a runner sends it."""

    type: str
    payload: msgspec.Raw = msgspec.field(default_factory=_empty_object)
    at: str | None = None
    command_id: str | None = None


class Event(Body):
    """One event of a run's log; epoch and producer seq are null for the manager's own."""

    seq: int
    run_id: str
    type: str
    payload: msgspec.Raw
    at: str
    command_id: str | None
    epoch: int | None
    producer_seq: int | None


class FailureView(Value, frozen=True):
    """What is always true of a failure kind."""

    failure_class: str = msgspec.field(name="class")
    retryable: bool
    remedy: str


class ResultEnvelope(Body):
    """Outcome of a command, or of a run when `command_id` is null."""

    run_id: str
    command_id: str | None
    status: str
    reply: str | None
    terminal_status: str | None
    failure_kind: str | None
    failure_message: str | None
    completed: bool
    session_ref: SessionRef
    failure: FailureView | None
    usage: dict[str, int] | None
    first_seq: int
    last_seq: int
    epoch: int


class RegisterRequest(Body):
    """Body of `POST /api/v1/runners/register`."""

    id: str | None = None
    run_id: str | None = None
    attempt_id: str | None = None
    backend_profile: str | None = None
    placement: str | None = None
    source_commit: str | None = None
    labels: dict[str, str] | None = None


class Registration(Body):
    """Answer to a registration; the token is shown once, `session_id` names the registration."""

    id: str
    session_id: str
    token: str
    lease_ms: int
    heartbeat_ms: int


class DrainRequest(Body):
    """Body of `POST /api/v1/runners/{runnerId}/drain`."""

    draining: bool = True


class GoneRequest(Body):
    """Body of `POST /api/v1/runners/{runnerId}/gone`."""

    session_id: str
    reason: str | None = None


class GoneAnswer(Body):
    """What a report came to: the runner as it is now, and the runs whose lease lapsed."""

    runner: "Runner"
    lapsed_runs: list[str]


class Runner(Body):
    """A runner as operators see it; `held_runs` counts live leases.

    `session_id` names the registration, `gone_at` is when that one was reported gone.
    """

    id: str
    session_id: str
    attempt_id: str | None
    backend_profile: str | None
    placement: str | None
    source_commit: str | None
    labels: dict[str, str]
    draining: bool
    held_runs: int
    registered_at: str
    last_seen_at: str
    gone_at: str | None
    silent_ms: int


class RunnerPage(Body):
    """Runners, those heard of last first."""

    items: list[Runner]
    next_cursor: str | None


class ClaimRequest(Body):
    """Body of a directed claim."""

    runner_id: str
    lease_ms: int | None = None
    attempt_id: str | None = None
    session_id: str | None = None


class PoolClaimRequest(ClaimRequest):
    """Body of `POST /api/v1/claims`."""

    max: int = 1
    backend_profile: str | None = None
    wait_ms: int = 0


class Claim(Body):
    """A granted claim; the token is shown once."""

    run_id: str
    epoch: int
    token: str
    lease_ms: int
    remaining_ms: int
    last_seq: int
    cmd_last: int
    reason: str
    run: Run
    commands: list[Command]


class AppendRequest(Body):
    """Body of a fenced append."""

    epoch: Count
    first_producer_seq: Count
    events: list[NewEvent]


class AppendAnswer(Body):
    """What a fenced append came to; sent after the commit is durable."""

    acked_producer_seq: int
    last_seq: int
    cmd_last: int
    cancel: bool
    remaining_ms: int
    next_flush_ms: int
    duplicate: bool


class HeldRun(Body):
    """One run in a heartbeat."""

    run_id: str
    epoch: Count
    activity_ms: Count | None = None


class HeartbeatRequest(Body):
    """Body of a heartbeat."""

    runs: list[HeldRun] = []


class HeldRunAnswer(Body):
    """What a runner learns of one run it holds."""

    run_id: str
    cmd_last: int
    cancel: bool
    remaining_ms: int


class HeartbeatAnswer(Body):
    """Answer to a heartbeat; `lost` names runs whose work must stop at once."""

    lost: list[str]
    runs: list[HeldRunAnswer]
    draining: bool


class ReleaseRequest(Body):
    """Body of a release."""

    epoch: Count
    reason: str | None = None


class ReleaseAnswer(Body):
    """Where the run stands after a release."""

    run_id: str
    status: str
    last_seq: int


class EventPage(Body):
    """A page of a run's log."""

    items: list[Event]
    last_seq: int
    terminal: bool


class CommandPage(Body):
    """Commands in order of their seq."""

    items: list[Command]
    cmd_last: int


class RunPage(Body):
    """Runs, newest first."""

    items: list[Run]
    next_cursor: str | None


class Verification(Body):
    """What in a run's stored state its log does not explain."""

    run_id: str
    findings: list[str]


class ClaimList(Body):
    """Answer to a pool claim."""

    items: list[Claim]
