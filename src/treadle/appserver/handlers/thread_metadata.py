"""`thread/name/set`, `thread/metadata/update`, memory mode, settings, elicitation counter."""

import msgspec

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id
from treadle.appserver.handlers.turn import sticky_changes
from treadle.domain.threads import ThreadSummary
from treadle.wire.protocol import thread_changes as proto
from treadle.wire.protocol.errors import invalid_request, unsupported
from treadle.wire.protocol.threads import Empty, ThreadIdParams, ThreadResult


async def set_name(context: Context, params: proto.ThreadNameParams) -> Empty:
    """Name a thread."""
    check_id(params.thread_id)
    announce = await context.services.life().metadata.rename(params.thread_id, params.name)
    context.afterwards(announce)
    return Empty()


async def update_metadata(context: Context, params: proto.ThreadMetadataParams) -> ThreadResult:
    """Change what a thread is marked with."""
    check_id(params.thread_id)
    if params.project_id is not None or params.daybreak_enabled is not None:
        raise unsupported("projectId and daybreakEnabled of a thread are not supported yet")
    if params.git_info is None:
        raise invalid_request("thread metadata update must include at least one field")
    changes: dict[str, str | None] = {}
    for field in msgspec.structs.fields(proto.GitChanges):
        value = getattr(params.git_info, field.name)
        if value is msgspec.UNSET:
            continue
        if value is not None and not value.strip():
            raise invalid_request(f"gitInfo.{field.encode_name} must not be empty")
        changes[field.encode_name] = value
    if not changes:
        raise invalid_request("gitInfo must include at least one field")
    metadata = context.services.life().metadata
    summary: ThreadSummary = await metadata.set_git(params.thread_id, changes)
    return ThreadResult(thread=summary)


async def set_memory_mode(context: Context, params: proto.MemoryModeParams) -> Empty:
    """Whether the thread may feed memories."""
    check_id(params.thread_id)
    await context.services.life().metadata.set_memory_mode(params.thread_id, params.mode)
    return Empty()


async def update_settings(context: Context, params: proto.ThreadSettingsParams) -> Empty:
    """Change the settings of the next turns."""
    check_id(params.thread_id)
    if params.permissions is not None or params.environments or params.disabled_plugin_ids:
        raise unsupported(
            "permissions, environments and disabledPluginIds of thread/settings/update are not "
            "supported yet; use sandboxPolicy and cwd"
        )
    await context.services.turns.update_settings(params.thread_id, sticky_changes(params))
    return Empty()


async def increment_elicitation(
    context: Context, params: ThreadIdParams
) -> proto.ElicitationResult:
    """The client asks its user something by itself."""
    return _count(context, params.thread_id, 1)


async def decrement_elicitation(
    context: Context, params: ThreadIdParams
) -> proto.ElicitationResult:
    """The client's own question is answered."""
    return _count(context, params.thread_id, -1)


def _count(context: Context, thread_id: str, step: int) -> proto.ElicitationResult:
    check_id(thread_id)
    count = context.services.life().metadata.count_elicitation(thread_id, step)
    return proto.ElicitationResult(count=count, paused=count > 0)
