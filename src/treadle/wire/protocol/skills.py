"""Parameters and results of `skills/*` (protocol 0.129.0 and 0.169.0)."""

from typing import Any

from treadle.domain.items import Shape


class FolderRoots(Shape, kw_only=True):
    """Further folders of skills for one working folder (0.129.0)."""

    cwd: str
    extra_user_roots: list[str]


class SkillsListParams(Shape, kw_only=True):
    """Parameters of `skills/list`; without folders the server's own is meant."""

    cwds: list[str] = []
    force_reload: bool = False
    per_cwd_extra_user_roots: list[FolderRoots] | None = None


class SkillsListResult(Shape, kw_only=True):
    """Result of `skills/list`: one entry a folder, in the order asked."""

    data: list[dict[str, Any]]


class SkillSwitchParams(Shape, kw_only=True):
    """Parameters of `skills/config/write`: exactly one of path and name."""

    enabled: bool
    path: str | None = None
    name: str | None = None


class SkillSwitched(Shape, kw_only=True):
    """Result of `skills/config/write`."""

    effective_enabled: bool


class ExtraRootsParams(Shape, kw_only=True):
    """Parameters of `skills/extraRoots/set` (0.169.0)."""

    extra_roots: list[str]


class SkillsChanged(Shape, kw_only=True):
    """Notification `skills/changed`: a list that was read before may differ now."""
