"""The sandbox for where namespaces are forbidden: Landlock and a system call filter.

Enforces read-only policies alone. Landlock grants rights to whole trees, so it cannot let a folder
be written and protect `.git` in it; such a policy is refused rather than weakened.
"""

from collections.abc import Mapping, Sequence

from treadle.domain.policy import ReadOnly, SandboxPolicy
from treadle.engine.sandbox.launch_plan import LaunchPlan, SandboxReport, SandboxUnavailable
from treadle.engine.sandbox.launcher_command import launcher_argv, network_allowed, trial
from treadle.engine.sandbox.writable import writable_area

REMEDY = (
    "install bubblewrap or allow user namespaces; or, where a container already is the sandbox, "
    "say so (external sandbox)"
)


class Landlock:
    """Confines by Landlock."""

    report = SandboxReport(
        backend="landlock",
        enforced=True,
        why_not="only read-only can be enforced: user namespaces are not available",
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
        """The launcher's call for `argv`; raises SandboxUnavailable for workspace-write."""
        area = writable_area(
            policy, cwd=cwd, workspace_roots=workspace_roots, tmpdir=env.get("TMPDIR")
        )
        if area.everything:
            return LaunchPlan(argv=tuple(argv), cwd=cwd, env=dict(env))
        if not isinstance(policy, ReadOnly):
            raise SandboxUnavailable(f"workspace-write cannot be enforced here; {REMEDY}")
        options = ["--landlock", "--cwd", cwd]
        if not network_allowed(policy):
            options.append("--no-network")
        return LaunchPlan(argv=launcher_argv(options, argv), cwd=cwd, env=dict(env))


def why_not() -> str | None:
    """Why this machine cannot do it; None when it can."""
    return trial(launcher_argv(["--explain", "--landlock", "--no-network"], ["true"]))
