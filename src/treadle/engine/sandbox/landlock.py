"""The sandbox for where namespaces are forbidden: Landlock and a system call filter.

Landlock grants rights to whole trees, so it cannot let a folder be written and protect `.git` in
it. Where a writable folder has such an entry its other entries are granted one by one: nothing new
can be made beside them, which is less than the policy allows and never more. Modes and times of
files are beyond it; a read-only policy forbids changing them anywhere.
"""

import os
from collections.abc import Mapping, Sequence

from treadle.domain.policy import SandboxPolicy
from treadle.engine.sandbox.launch_plan import LaunchPlan, SandboxReport
from treadle.engine.sandbox.launcher_command import launcher_argv, network_allowed, trial
from treadle.engine.sandbox.writable import WritableArea, is_within, writable_area

REMEDY = (
    "install bubblewrap or allow user namespaces; or, where a container already is the sandbox, "
    "say so (external sandbox)"
)


class Landlock:
    """Confines by Landlock."""

    report = SandboxReport(
        backend="landlock",
        enforced=True,
        why_not=(
            "user namespaces are not available: beside `.git` and agents' folders nothing new can "
            "be made, and modes and times of files outside the workspace are not fenced"
        ),
        remedy=REMEDY,
    )

    def plan(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        policy: SandboxPolicy,
        workspace_roots: Sequence[str],
    ) -> LaunchPlan:
        """The launcher's call for `argv` under `policy`."""
        area = writable_area(
            policy, cwd=cwd, workspace_roots=workspace_roots, tmpdir=env.get("TMPDIR")
        )
        if area.everything:
            return LaunchPlan(argv=tuple(argv), cwd=cwd, env=dict(env))
        options = ["--landlock", "--cwd", cwd]
        if not network_allowed(policy):
            options.append("--no-network")
        for path in _grantable(area):
            options += ["--rw", path]
        return LaunchPlan(argv=launcher_argv(options, argv), cwd=cwd, env=dict(env))


def _grantable(area: WritableArea) -> list[str]:
    """What may be granted whole: roots, or what in them is not protected."""
    protected = [path for path in area.protected if os.path.lexists(path)]
    found: list[str] = []
    waiting = list(area.roots)
    while waiting:
        path = waiting.pop()
        if not any(is_within(place, path) or is_within(path, place) for place in protected):
            found.append(path)
        elif path not in protected and os.path.isdir(path):
            # What a link leads to is granted where it lies, if at all.
            waiting += [entry.path for entry in os.scandir(path) if not entry.is_symlink()]
    return found


def why_not() -> str | None:
    """Why this machine cannot do it; None when it can."""
    return trial(launcher_argv(["--explain", "--landlock", "--no-network"], ["true"]))
