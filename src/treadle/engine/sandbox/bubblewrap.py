"""The sandbox made by the `bwrap` program, where one is installed.

Adds a process namespace to what our own namespaces do, and works where a distribution lets only
this program make namespaces. Connecting to local sockets is stopped by the launcher inside it.
"""

import os
from collections.abc import Mapping, Sequence

from treadle.domain.policy import SandboxPolicy
from treadle.engine.sandbox.launch_plan import LaunchPlan, SandboxReport
from treadle.engine.sandbox.launcher_command import launcher_argv, network_allowed, trial
from treadle.engine.sandbox.writable import WritableArea, writable_area


class Bubblewrap:
    """Confines by bwrap."""

    report = SandboxReport(backend="bubblewrap", enforced=True)

    def __init__(self, program: str) -> None:
        """Use this `program` (an absolute path)."""
        self._program = program

    def plan(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        policy: SandboxPolicy,
        workspace_roots: Sequence[str],
    ) -> LaunchPlan:
        """The call of bwrap for `argv` under `policy`."""
        area = writable_area(
            policy, cwd=cwd, workspace_roots=workspace_roots, tmpdir=env.get("TMPDIR")
        )
        if area.everything:
            return LaunchPlan(argv=tuple(argv), cwd=cwd, env=dict(env))
        network = network_allowed(policy)
        inner = launcher_argv([] if network else ["--no-network"], argv)
        options = _options(area, cwd, network=network)
        return LaunchPlan(argv=(self._program, *options, "--", *inner), cwd=cwd, env=dict(env))


def _options(area: WritableArea, cwd: str, *, network: bool) -> list[str]:
    options = ["--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
    if not network:
        options.append("--unshare-net")
    options += ["--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for root in area.roots:
        options += ["--bind", root, root]
    for path in area.protected:
        # Only what is there: bwrap would make a folder to mount on, and leave it behind.
        if os.path.lexists(path):
            options += ["--ro-bind", path, path]
    return [*options, "--chdir", cwd]


def find_program(search_path: str) -> str | None:
    """The first `bwrap` on a PATH-like list of folders."""
    for folder in search_path.split(os.pathsep):
        path = os.path.join(folder, "bwrap")
        if os.path.isabs(path) and os.access(path, os.X_OK):
            return path
    return None


def why_not(program: str) -> str | None:
    """Why `program` does not work on this machine; None when it does."""
    options = _options(WritableArea(everything=False), "/", network=False)
    inner = launcher_argv(["--explain", "--no-network"], ["true"])
    return trial([program, *options, "--", *inner])
