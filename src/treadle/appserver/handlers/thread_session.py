"""What handlers of threads share: checked ids, overrides, what start, resume and fork answer."""

from typing import Any

from treadle.appserver.context import Context
from treadle.domain.ids import explain_bad_uuid
from treadle.domain.records import UsageRecorded
from treadle.engine.services.planning import Overrides
from treadle.engine.services.threads import Client, Opened
from treadle.wire.protocol import threads as proto
from treadle.wire.protocol.errors import invalid_request


def check_id(thread_id: str, noun: str = "thread") -> None:
    """Refuse an id that is none, in the references' words; raises RpcError."""
    problem = explain_bad_uuid(thread_id)
    if problem is not None:
        raise invalid_request(f"invalid {noun} id: {problem}")


def client_of(context: Context) -> Client:
    """Who asks."""
    return Client(context.session.originator, context.session.user_agent)


def overrides_of(params: proto.ThreadOverrides) -> Overrides:
    """What a request sets for its thread. No environments: it has no machine to work on."""
    roots = params.runtime_workspace_roots
    return Overrides(
        model=params.model,
        model_provider=params.model_provider,
        cwd=params.cwd,
        approval_policy=params.approval_policy,
        approvals_reviewer=params.approvals_reviewer,
        sandbox=params.sandbox,
        config=params.config or {},
        base_instructions=params.base_instructions,
        developer_instructions=params.developer_instructions,
        service_tier=params.service_tier,
        personality=params.personality,
        workspace_roots=tuple(roots) if roots is not None else None,
        has_environment=getattr(params, "environments", None) != [],
    )


def session_facts(opened: Opened) -> dict[str, Any]:
    """The fields of `ThreadSession` for an opened thread."""
    settings = opened.thread.agent.settings
    return {
        "thread": opened.thread.summary(),
        "model": settings.model,
        "model_provider": settings.model_provider,
        "service_tier": settings.service_tier,
        "cwd": settings.cwd,
        "runtime_workspace_roots": list(settings.workspace_roots or (settings.cwd,)),
        "instruction_sources": list(opened.plan.instruction_sources),
        "approval_policy": settings.approval_policy,
        "approvals_reviewer": settings.approvals_reviewer,
        "sandbox": settings.sandbox,
        "reasoning_effort": settings.effort,
        "last_seq": opened.last_seq,
    }


def tell_usage(context: Context, thread_id: str, usage: UsageRecorded | None) -> None:
    """Tell the asker the token counts that a log ends with, once it has its answer."""
    if usage is None:
        return
    params = {"threadId": thread_id, "turnId": usage.turn_id or "", "tokenUsage": usage.usage}
    context.afterwards(
        lambda: context.services.subscriptions.notify(
            context.session, "thread/tokenUsage/updated", params
        )
    )
