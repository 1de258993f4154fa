"""Which folders a policy lets be written, and what in them stays protected.

The one place that reads a policy as paths: sandbox backends enforce it on commands, the patch tool
asks it before writing by itself. Resolves symbolic links first, since a link inside a root may lead
out of it. Starts and writes nothing.
"""

import os
from collections.abc import Sequence

import msgspec

from treadle.domain.policy import DangerFullAccess, ExternalSandbox, SandboxPolicy, WorkspaceWrite

PROTECTED_NAMES = (".git", ".codex", ".agents", ".treadle")
"""Directly below a writable root these stay read-only: they hold what is run or believed later."""


class WritableArea(msgspec.Struct, frozen=True):
    """What may be written; resolved absolute paths."""

    everything: bool
    roots: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    """Below the roots, whether they exist or not."""

    def allows(self, path: str) -> bool:
        """Whether `path` may be created, changed or removed."""
        if self.everything:
            return True
        real = real_target(path)
        if any(is_within(real, place) for place in self.protected):
            return False
        return any(is_within(real, root) for root in self.roots)


def writable_area(
    policy: SandboxPolicy, *, cwd: str, workspace_roots: Sequence[str], tmpdir: str | None
) -> WritableArea:
    """Read `policy` as paths.

    Args:
        policy: what is allowed.
        cwd: the thread's folder, a workspace root.
        workspace_roots: further folders that count as workspace.
        tmpdir: value of `TMPDIR` for the command, if it has one.
    """
    if isinstance(policy, DangerFullAccess | ExternalSandbox):
        return WritableArea(everything=True)
    if not isinstance(policy, WorkspaceWrite):
        return WritableArea(everything=False)
    workspace = [cwd, *workspace_roots, *policy.writable_roots]
    temporary: list[str] = []
    if not policy.exclude_slash_tmp:
        temporary.append("/tmp")
    if tmpdir and os.path.isabs(tmpdir) and not policy.exclude_tmpdir_env_var:
        temporary.append(tmpdir)
    roots = _existing(workspace)
    protected: list[str] = []
    for root in roots:
        for name in PROTECTED_NAMES:
            protected += _with_target(os.path.join(root, name))
        protected += _worktree_git_folder(os.path.join(root, ".git"))
    return WritableArea(
        everything=False,
        roots=tuple(dict.fromkeys([*roots, *_existing(temporary)])),
        protected=tuple(dict.fromkeys(protected)),
    )


def _existing(folders: Sequence[str]) -> list[str]:
    real = (os.path.realpath(folder) for folder in folders)
    return [folder for folder in dict.fromkeys(real) if os.path.isdir(folder)]


def _with_target(path: str) -> list[str]:
    """A protected name and, when it is a link, what it leads to."""
    real = os.path.realpath(path)
    return [path] if real == path else [path, real]


def _worktree_git_folder(path: str) -> list[str]:
    """Where a `.git` file (a worktree's or submodule's) points to."""
    if not os.path.isfile(path):
        return []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            first = file.readline(4096)
    except OSError:
        return []
    if not first.startswith("gitdir:"):
        return []
    folder = os.path.join(os.path.dirname(path), first.removeprefix("gitdir:").strip())
    return [os.path.realpath(folder)]


def real_target(path: str) -> str:
    """Where writing `path` would end up: links resolved, also of a last part that is missing."""
    return os.path.realpath(path)


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or below it; both resolved."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
