"""`config/*` and `model/list`: from parameters to the configuration and back."""

from typing import Any

from treadle.appserver.context import Context
from treadle.appserver.handlers.paging import page
from treadle.appserver.handlers.thread_session import check_id
from treadle.wire.protocol import settings as proto
from treadle.wire.protocol.errors import invalid_request


async def read_config(context: Context, params: proto.ConfigReadParams) -> dict[str, Any]:
    """The configuration in force."""
    return context.services.config.read(params.cwd, include_layers=params.include_layers)


async def write_config_value(
    context: Context, params: proto.ConfigValueWriteParams
) -> dict[str, Any]:
    """Change one key of the user's configuration."""
    edit = (params.key_path, params.value, params.merge_strategy)
    return context.services.config.write([edit], params.file_path, params.expected_version)


async def write_config_batch(
    context: Context, params: proto.ConfigBatchWriteParams
) -> dict[str, Any]:
    """Change several keys, all or none."""
    edits = [(edit.key_path, edit.value, edit.merge_strategy) for edit in params.edits]
    return context.services.config.write(edits, params.file_path, params.expected_version)


async def read_requirements(context: Context, params: None) -> proto.ConfigRequirementsResult:
    """What an administrator requires."""
    del params
    return proto.ConfigRequirementsResult(requirements=context.services.config.requirements())


async def list_features(
    context: Context, params: proto.FeatureListParams
) -> proto.FeatureListResult:
    """The feature switches, as they are for a thread's folder or for the server's own."""
    features = context.services.config.features(_folder_of(context, params.thread_id))
    data, following = page(features, params.cursor, params.limit)
    return proto.FeatureListResult(data=data, next_cursor=following)


def _folder_of(context: Context, thread_id: str | None) -> str | None:
    if thread_id is None:
        return None
    check_id(thread_id)
    thread = context.services.threads.get(thread_id)
    if thread is None:
        raise invalid_request(f"thread not found: {thread_id}")
    return thread.agent.settings.cwd


async def list_hooks(context: Context, params: proto.HooksListParams) -> proto.HooksListResult:
    """The hooks of each folder: none, and why."""
    folders = params.cwds or [_folder_of(context, params.thread_id)]
    return proto.HooksListResult(data=[context.services.config.hooks(cwd) for cwd in folders])


async def switch_features(
    context: Context, params: proto.FeatureEnablement
) -> proto.FeatureEnablement:
    """Switch features for the life of the process."""
    taken = context.services.config.switch_features(params.enablement)
    return proto.FeatureEnablement(enablement=taken)


async def list_models(context: Context, params: proto.ModelListParams) -> proto.ModelListResult:
    """The model catalog; cursors are offsets in decimal (0.169.0)."""
    models = [
        model
        for model in context.services.config.models()
        if params.include_hidden or not model.get("hidden")
    ]
    data, following = page(models, params.cursor, params.limit)
    return proto.ModelListResult(data=data, next_cursor=following)
