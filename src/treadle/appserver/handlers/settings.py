"""`config/*` and `model/list`: from parameters to the configuration and back."""

from typing import Any

from treadle.appserver.context import Context
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


async def list_models(context: Context, params: proto.ModelListParams) -> proto.ModelListResult:
    """The model catalog; cursors are offsets in decimal (0.169.0)."""
    models = [
        model
        for model in context.services.config.models()
        if params.include_hidden or not model.get("hidden")
    ]
    begin = 0
    if params.cursor is not None:
        if not params.cursor.isdecimal() or int(params.cursor) > len(models):
            raise invalid_request(f"invalid cursor: {params.cursor}")
        begin = int(params.cursor)
    end = begin + max(1, params.limit) if params.limit is not None else len(models)
    return proto.ModelListResult(
        data=models[begin:end], next_cursor=str(end) if end < len(models) else None
    )
