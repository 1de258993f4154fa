"""What clients ask of the machine at start: providers, profiles, diagnostics, git."""

from typing import Any

from treadle.domain.items import Shape
from treadle.wire.protocol.numbers import U32


class ModelProviderList(Shape, kw_only=True):
    """Result of `modelProvider/list` (0.169.0)."""

    data: list[dict[str, Any]]
    default_provider_id: str
    can_change_default: bool


class ProviderCapabilities(Shape, kw_only=True):
    """Result of `modelProvider/capabilities/read`."""

    image_generation: bool = True
    web_search: bool = True
    namespace_tools: bool = True


class PermissionProfileListParams(Shape, kw_only=True):
    """Parameters of `permissionProfile/list`; cursors are offsets in decimal."""

    cursor: str | None = None
    limit: U32 | None = None
    cwd: str | None = None


class PermissionProfileList(Shape, kw_only=True):
    """A page of permission profiles (0.169.0)."""

    data: list[dict[str, Any]]
    next_cursor: str | None = None


class Gauge(Shape, kw_only=True):
    """A number that `server/diagnostics` tells."""

    name: str
    value: int


class ProcessFacts(Shape, kw_only=True):
    """The server's process; null where the system does not tell."""

    id: int
    resident_memory_bytes: int | None = None
    physical_footprint_bytes: int | None = None


class Diagnostics(Shape, kw_only=True):
    """Result of `server/diagnostics` (0.169.0)."""

    process: ProcessFacts
    gauges: list[Gauge]


class GitDiffParams(Shape, kw_only=True):
    """Parameters of `gitDiffToRemote`."""

    cwd: str


class GitDiff(Shape, kw_only=True):
    """Result of `gitDiffToRemote`: the newest commit a remote has, and the patch since."""

    sha: str
    diff: str


class EchoParams(Shape, kw_only=True):
    """Parameters of `mock/experimentalMethod`, by which clients try their experimental flag."""

    value: str | None = None


class Echo(Shape, kw_only=True):
    """Result of `mock/experimentalMethod`."""

    echoed: str | None = None
