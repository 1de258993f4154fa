"""Parameters and results of `turn/*`."""

from typing import Any, Literal

import msgspec

from treadle.domain.budgets import BudgetChange
from treadle.domain.items import Shape, UserInput
from treadle.domain.policy import ApprovalPolicy, SandboxPolicy
from treadle.domain.turns import Turn


class TurnStartParams(Shape, kw_only=True):
    """Parameters of `turn/start`; overrides stick to the thread."""

    thread_id: str
    input: list[UserInput]
    client_user_message_id: str | None = None
    cwd: str | None = None
    model: str | None = None
    effort: str | None = None
    summary: str | None = None
    approval_policy: ApprovalPolicy | None = None
    approvals_reviewer: str | None = None
    sandbox_policy: SandboxPolicy | None = None
    permissions: Any = None
    service_tier: str | None = None
    personality: str | None = None
    collaboration_mode: dict[str, Any] | None = None
    environments: list[Any] | None = None
    runtime_workspace_roots: list[str] | None = None
    output_schema: Any = None
    turn_trigger: str | None = None
    additional_context: dict[str, Any] | None = None
    responsesapi_client_metadata: dict[str, Any] | None = None
    budget: BudgetChange | None = None


class CollaborationMode(Shape, kw_only=True):
    """A mode that a client may choose, and what it would change besides."""

    name: str
    mode: Literal["plan", "default"]
    model: str | None = None
    reasoning_effort: str | None = msgspec.field(name="reasoning_effort", default=None)


class CollaborationModes(Shape, kw_only=True):
    """All of them."""

    data: list[CollaborationMode]


class TurnSettingsParams(Shape, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `turn/settings/update`."""

    thread_id: str
    turn_id: str
    model: str | None = None
    effort: str | None = None
    summary: str | None = None
    service_tier: str | None = None
    approvals_reviewer: str | None = None
    environments: list[Any] | None = None


class TurnSettingsResult(Shape, kw_only=True):
    """Whether the turn was there to take them: its next request follows them."""

    status: Literal["applied", "targetUnavailable"]


class TurnStartResult(Shape, kw_only=True):
    """The turn that now runs."""

    turn: Turn


class TurnInterruptParams(Shape, kw_only=True):
    """Parameters of `turn/interrupt`; an empty turn id means whatever runs."""

    thread_id: str
    turn_id: str


class TurnSteerParams(Shape, kw_only=True):
    """Parameters of `turn/steer`."""

    thread_id: str
    expected_turn_id: str
    input: list[UserInput]
    client_user_message_id: str | None = None


class TurnSteerResult(Shape, kw_only=True):
    """The turn that took the input."""

    turn_id: str
