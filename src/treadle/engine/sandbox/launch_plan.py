"""The port to sandboxes: how a command is started so that a policy holds for it.

A sandbox turns a command and a policy into a launch plan (argv and environment). It starts nothing
itself. Backends fail closed: a policy that they cannot enforce raises, it is never weakened.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from treadle.domain.policy import SandboxPolicy


class SandboxUnavailable(Exception):
    """The policy cannot be enforced here; the text says why and what to do."""


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to start: program with arguments, folder and whole environment."""

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]


class SandboxReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe at start-up found, for `treadle doctor` and the config warning."""

    backend: str
    """`bubblewrap`, `landlock`, `none` or `external`."""
    enforced: bool
    why_not: str | None = None
    remedy: str | None = None


class Sandbox(Protocol):
    """One way to confine a process."""

    @property
    def report(self) -> SandboxReport:
        """What this sandbox is and whether it enforces anything."""
        ...

    def plan(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        policy: SandboxPolicy,
        workspace_roots: Sequence[str],
    ) -> LaunchPlan:
        """How to start `argv` under `policy`.

        Args:
            argv: the command.
            cwd: its folder; with `WorkspaceWrite` it is writable, as are `workspace_roots`.
            env: its whole environment.
            policy: what it may do.
            workspace_roots: further folders that count as workspace.

        Raises:
            SandboxUnavailable: the policy cannot be enforced.
        """
        ...
