"""`turn/*`: from parameters to the turns service and back."""

from typing import Any

from treadle.appserver.context import Context
from treadle.domain.ids import explain_bad_uuid
from treadle.wire.protocol import turns as proto
from treadle.wire.protocol.errors import invalid_request
from treadle.wire.protocol.threads import Empty

_STICKY = {
    "cwd": "cwd",
    "model": "model",
    "effort": "effort",
    "summary": "summary",
    "approval_policy": "approval_policy",
    "approvals_reviewer": "approvals_reviewer",
    "sandbox_policy": "sandbox",
    "service_tier": "service_tier",
    "personality": "personality",
    "collaboration_mode": "collaboration_mode",
}


async def start(context: Context, params: proto.TurnStartParams) -> proto.TurnStartResult:
    """Begin a turn, or join the one that runs."""
    _check_id(params.thread_id)
    if params.budget is not None:
        context.services.budgets.set(params.thread_id, params.budget)
    turn = await context.services.turns.start(
        params.thread_id,
        params.input,
        changes=_changes(params),
        client_id=params.client_user_message_id,
        output_schema=params.output_schema,
    )
    return proto.TurnStartResult(turn=turn)


def _changes(params: proto.TurnStartParams) -> dict[str, Any]:
    changes = sticky_changes(params)
    if params.runtime_workspace_roots is not None:
        changes["workspace_roots"] = tuple(params.runtime_workspace_roots)
    return changes


def sticky_changes(params: Any) -> dict[str, Any]:
    """The settings of a thread that a request sets; what is null stays as it is."""
    return {
        setting: value
        for field, setting in _STICKY.items()
        if (value := getattr(params, field)) is not None
    }


_OF_A_TURN = ("model", "effort", "summary", "service_tier", "approvals_reviewer")


async def update_settings(
    context: Context, params: proto.TurnSettingsParams
) -> proto.TurnSettingsResult:
    """Change what the running turn asks its model with from its next request on."""
    _check_id(params.thread_id)
    given = {name: getattr(params, name) for name in _OF_A_TURN}
    changes = {name: value for name, value in given.items() if value is not None}
    turns = context.services.turns
    applied = await turns.update_running(params.thread_id, params.turn_id, changes)
    return proto.TurnSettingsResult(status="applied" if applied else "targetUnavailable")


async def list_modes(context: Context, params: Empty) -> proto.CollaborationModes:
    """The collaboration modes; planning thinks a little longer (0.169.0)."""
    del context, params
    return proto.CollaborationModes(
        data=[
            proto.CollaborationMode(name="Plan", mode="plan", reasoning_effort="medium"),
            proto.CollaborationMode(name="Default", mode="default"),
        ]
    )


async def steer(context: Context, params: proto.TurnSteerParams) -> proto.TurnSteerResult:
    """Add input to the running turn."""
    _check_id(params.thread_id)
    turn_id = context.services.turns.steer(
        params.thread_id, params.expected_turn_id, params.input, params.client_user_message_id
    )
    return proto.TurnSteerResult(turn_id=turn_id)


async def interrupt(context: Context, params: proto.TurnInterruptParams) -> Empty:
    """End the running turn; its completion is announced after this answer."""
    _check_id(params.thread_id)
    context.services.turns.interrupt(params.thread_id, params.turn_id)
    return Empty()


def _check_id(thread_id: str) -> None:
    problem = explain_bad_uuid(thread_id)
    if problem is not None:
        raise invalid_request(f"invalid thread id: {problem}")
