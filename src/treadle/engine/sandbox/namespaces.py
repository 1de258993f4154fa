"""The sandbox of our own making: mount and network namespaces, set up by the launcher.

Needs a kernel that lets this user make user namespaces, and no helper program. Under it everything
is read-only but the policy's roots; devices are a bare few; without network there is no interface
and no way to connect even to local sockets. A protected name that does not exist cannot be guarded
against being created, for that would leave empty folders behind.
"""

from collections.abc import Mapping, Sequence

from treadle.domain.policy import SandboxPolicy
from treadle.engine.sandbox.launch_plan import LaunchPlan, SandboxReport
from treadle.engine.sandbox.launcher_command import launcher_argv, network_allowed, trial
from treadle.engine.sandbox.writable import writable_area


class Namespaces:
    """Confines by namespaces."""

    report = SandboxReport(backend="namespaces", enforced=True)

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
        options = ["--namespaces", "--cwd", cwd]
        if not network_allowed(policy):
            options.append("--no-network")
        for root in area.roots:
            options += ["--rw", root]
        for path in area.protected:
            options += ["--ro", path]
        return LaunchPlan(argv=launcher_argv(options, argv), cwd=cwd, env=dict(env))


def why_not() -> str | None:
    """Why this machine cannot do it; None when it can. Takes some 30 ms."""
    return trial(launcher_argv(["--explain", "--namespaces", "--no-network"], ["true"]))
