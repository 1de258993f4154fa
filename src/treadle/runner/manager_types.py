"""What the manager says, as its clients read it: the fields that a runner or a command line needs.

The manager's own records are its own; these follow `docs/control-api.md` and ignore what they do
not name. Plain data, no behaviour.
"""

from typing import Any

import msgspec


class Shape(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """Base of what travels as JSON; unknown members are ignored."""


class SessionRef(Shape, frozen=True, kw_only=True):
    """The durable agent thread of a run."""

    session_id: str | None = None
    conversation_id: str | None = None
    thread_id: str | None = None


class WorkspaceRef(Shape, frozen=True, kw_only=True):
    """Where the agent works."""

    kind: str = "host-path"
    path: str = ""


class SecretRef(Shape, frozen=True, kw_only=True):
    """Names a secret and the files it has."""

    name: str
    keys: list[str] = []
    mount_path: str | None = None


class ProviderCredential(Shape, frozen=True, kw_only=True):
    """The credential of one backend profile."""

    profile: str
    secret_ref: SecretRef


class SecretScope(Shape, frozen=True, kw_only=True):
    """Which credentials a run may use."""

    allow_credential_echo: bool = False
    provider_credentials: list[ProviderCredential] | None = None


class ExecutionPolicy(Shape, frozen=True, kw_only=True):
    """How the agent may act; `timeout_ms` is the idle deadline of a turn."""

    sandbox: str | None = None
    approval: str | None = None
    timeout_ms: int | None = None
    answer_timeout_ms: int | None = None
    answer_default: str | None = None
    network: str | None = None
    secret_scope: SecretScope | None = None


class PendingRequest(Shape, frozen=True, kw_only=True):
    """A question of the agent that waits for an answer."""

    id: str
    command_id: str | None = None
    kind: str = ""
    method: str = ""
    summary: str = ""
    decisions: list[str] = []
    expires_at: str | None = None
    seq: int = 0


class Run(Shape, frozen=True, kw_only=True):
    """A run as the manager shows it."""

    id: str
    tenant_id: str = ""
    project_id: str = ""
    workspace_ref: WorkspaceRef | None = None
    session_ref: SessionRef = SessionRef()
    provider_id: str | None = None
    backend_profile: str = "codex"
    placement: str = "process"
    execution_policy: ExecutionPolicy = ExecutionPolicy()
    labels: dict[str, str] = {}
    status: str
    terminal_status: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    pending_requests: list[PendingRequest] = []
    claimed_by: str | None = None
    epoch: int = 0
    lease_remaining_ms: int | None = None
    last_seq: int = 0
    cmd_last: int = 0
    created_at: str = ""
    updated_at: str = ""


class Command(Shape, frozen=True, kw_only=True):
    """A command of a run."""

    id: str
    run_id: str
    cmd_seq: int
    type: str
    payload: dict[str, Any] = {}
    state: str
    target_command_id: str | None = None
    terminal_status: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    delivered_epoch: int | None = None
    created_at: str = ""
    expires_at: str | None = None


class Event(Shape, frozen=True, kw_only=True):
    """One event of a run's log."""

    seq: int
    type: str
    payload: dict[str, Any] = {}
    at: str = ""
    command_id: str | None = None
    epoch: int | None = None
    producer_seq: int | None = None


class FailureView(Shape, frozen=True, kw_only=True):
    """What is always true of a failure kind."""

    failure_class: str = msgspec.field(name="class")
    retryable: bool
    remedy: str


class ResultEnvelope(Shape, frozen=True, kw_only=True):
    """Outcome of a command, or of a run when `command_id` is null."""

    run_id: str
    command_id: str | None = None
    status: str
    reply: str | None = None
    terminal_status: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    completed: bool = False
    session_ref: SessionRef = SessionRef()
    failure: FailureView | None = None
    usage: dict[str, int] | None = None


class Verification(Shape, frozen=True, kw_only=True):
    """What in a run's state its log does not explain."""

    findings: list[str]


class Registration(Shape, frozen=True, kw_only=True):
    """Answer to a registration; `session_id` names it, empty from a manager that knows none."""

    id: str
    session_id: str = ""
    token: str
    lease_ms: int = 15_000
    heartbeat_ms: int = 5_000


class Runner(Shape, frozen=True, kw_only=True):
    """A runner as operators see it; `gone_at` once its registration was reported gone."""

    id: str
    session_id: str = ""
    attempt_id: str | None = None
    backend_profile: str | None = None
    placement: str | None = None
    source_commit: str | None = None
    labels: dict[str, str] = {}
    draining: bool = False
    held_runs: int = 0
    registered_at: str = ""
    last_seen_at: str = ""
    gone_at: str | None = None
    silent_ms: int = 0


class GoneAnswer(Shape, frozen=True, kw_only=True):
    """What a report came to: the runner as it is now, and the runs whose lease lapsed."""

    runner: Runner
    lapsed_runs: list[str] = []


class ApiToken(Shape, frozen=True, kw_only=True):
    """A token without its secret; no tenant or project stands for all."""

    id: str
    name: str = ""
    tenant_id: str | None = None
    project_id: str | None = None
    role: str = ""
    created_by: str | None = None
    created_at: str = ""
    expires_at: str | None = None
    revoked_at: str | None = None


class IssuedToken(Shape, frozen=True, kw_only=True):
    """A fresh token with its secret."""

    api_token: ApiToken
    token: str


class ApiTokenList(Shape, frozen=True, kw_only=True):
    """Tokens, newest first."""

    items: list[ApiToken]


class RunnerPage(Shape, frozen=True, kw_only=True):
    """Runners, those heard of last first."""

    items: list[Runner]
    next_cursor: str | None = None


class Claim(Shape, frozen=True, kw_only=True):
    """A granted claim with what is to be done."""

    run_id: str
    epoch: int
    token: str
    lease_ms: int
    remaining_ms: int
    last_seq: int = 0
    cmd_last: int = 0
    reason: str = "first"
    run: Run
    commands: list[Command] = []


class NewEvent(Shape, frozen=True, kw_only=True, omit_defaults=True):
    """One event as a runner sends it; the payload is encoded already."""

    type: str
    payload: msgspec.Raw
    at: str | None = None
    command_id: str | None = None


class AppendAnswer(Shape, frozen=True, kw_only=True):
    """What an append came to."""

    acked_producer_seq: int
    cmd_last: int = 0
    cancel: bool = False
    remaining_ms: int
    next_flush_ms: int = 0
    duplicate: bool = False


class HeldRunAnswer(Shape, frozen=True, kw_only=True):
    """What a heartbeat says of one run."""

    run_id: str
    cmd_last: int = 0
    cancel: bool = False
    remaining_ms: int


class HeartbeatAnswer(Shape, frozen=True, kw_only=True):
    """Answer to a heartbeat; `lost` names runs whose work must stop at once."""

    lost: list[str] = []
    runs: list[HeldRunAnswer] = []
    draining: bool = False


class EventPage(Shape, frozen=True, kw_only=True):
    """A page of a run's log."""

    items: list[Event]
    last_seq: int = 0
    terminal: bool = False


class CommandPage(Shape, frozen=True, kw_only=True):
    """Commands in order of their seq."""

    items: list[Command]
    cmd_last: int = 0


class RunPage(Shape, frozen=True, kw_only=True):
    """Runs, newest first."""

    items: list[Run]
    next_cursor: str | None = None


class ClaimList(Shape, frozen=True, kw_only=True):
    """Answer to a pool claim."""

    items: list[Claim]
