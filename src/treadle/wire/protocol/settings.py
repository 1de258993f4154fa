"""Parameters and results of `config/*` and `model/*`."""

from typing import Any, Literal

from treadle.domain.items import Shape
from treadle.wire.protocol.numbers import U32


class ConfigReadParams(Shape, kw_only=True):
    """Parameters of `config/read`."""

    include_layers: bool = False
    cwd: str | None = None


class ConfigReadResult(Shape, kw_only=True, omit_defaults=True):
    """The configuration in force (snake_case keys) and where each value came from."""

    config: dict[str, Any]
    origins: dict[str, Any]
    layers: list[dict[str, Any]] | None = None


class ConfigEdit(Shape, kw_only=True):
    """One change of one key."""

    key_path: str
    value: Any
    merge_strategy: Literal["replace", "upsert"]


class ConfigValueWriteParams(ConfigEdit, kw_only=True):
    """Parameters of `config/value/write`."""

    file_path: str | None = None
    expected_version: str | None = None


class ConfigBatchWriteParams(Shape, kw_only=True):
    """Parameters of `config/batchWrite`."""

    edits: list[ConfigEdit]
    file_path: str | None = None
    expected_version: str | None = None
    reload_user_config: bool = False


class ConfigRequirementsResult(Shape, kw_only=True):
    """What an administrator requires; null without such a policy."""

    requirements: dict[str, Any] | None = None
    supports_independent_speed_modes: bool = True


class FeatureListParams(Shape, kw_only=True):
    """Parameters of `experimentalFeature/list`; a thread stands for its folder."""

    cursor: str | None = None
    limit: U32 | None = None
    thread_id: str | None = None


class FeatureListResult(Shape, kw_only=True):
    """A page of feature switches."""

    data: list[dict[str, Any]]
    next_cursor: str | None = None


class FeatureEnablement(Shape, kw_only=True):
    """Parameters and result of `experimentalFeature/enablement/set`: switches by name.

    The result names those that were taken; unknown ones are passed over (0.169.0).
    """

    enablement: dict[str, bool]


class HooksListParams(Shape, kw_only=True):
    """Parameters of `hooks/list`; without folders the thread's is meant, or the server's own."""

    cwds: list[str] = []
    thread_id: str | None = None


class HooksListResult(Shape, kw_only=True):
    """Result of `hooks/list`: one entry a folder, in the order asked."""

    data: list[dict[str, Any]]


class ModelListParams(Shape, kw_only=True):
    """Parameters of `model/list`."""

    limit: U32 | None = None
    cursor: str | None = None
    include_hidden: bool | None = None
    model_provider: str | None = None


class ModelListResult(Shape, kw_only=True):
    """A page of models."""

    data: list[dict[str, Any]]
    next_cursor: str | None = None
