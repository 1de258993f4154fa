"""Which sandbox this machine can do, found by trying, and only when one is first needed.

Fails closed: without a backend, a policy that asks for a fence raises. Where a container already is
the sandbox, the operator says so and commands start plainly, reported as `external`.
"""

from collections.abc import Mapping, Sequence

from treadle.domain.policy import DangerFullAccess, ExternalSandbox, SandboxPolicy
from treadle.engine.sandbox import bubblewrap, landlock, namespaces
from treadle.engine.sandbox.launch_plan import (
    LaunchPlan,
    Sandbox,
    SandboxReport,
    SandboxUnavailable,
)
from treadle.engine.sandbox.unconfined import Unconfined


class ContainerIsSandbox:
    """The operator's word that we run inside a fence: what a policy asks for is its job."""

    report = SandboxReport(backend="external", enforced=False)

    def plan(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        policy: SandboxPolicy,
        workspace_roots: Sequence[str],
    ) -> LaunchPlan:
        """The command as it is."""
        del policy, workspace_roots
        return LaunchPlan(argv=tuple(argv), cwd=cwd, env=dict(env))


class ProbedSandbox:
    """The best backend of this machine, probed once, at the first need."""

    def __init__(self, search_path: str) -> None:
        """Look for helper programs in `search_path` (the server's PATH)."""
        self._search_path = search_path
        self._chosen: Sandbox | None = None
        self._plain = Unconfined()

    @property
    def report(self) -> SandboxReport:
        """What was found; probes when that has not happened yet (up to 100 ms)."""
        return self._backend().report

    def plan(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        policy: SandboxPolicy,
        workspace_roots: Sequence[str],
    ) -> LaunchPlan:
        """How the chosen backend starts `argv`; raises SandboxUnavailable when none can."""
        plain = isinstance(policy, DangerFullAccess | ExternalSandbox)
        chosen = self._plain if plain else self._backend()
        return chosen.plan(argv, cwd=cwd, env=env, policy=policy, workspace_roots=workspace_roots)

    def _backend(self) -> Sandbox:
        if self._chosen is None:
            self._chosen = probe(self._search_path)
        return self._chosen


def probe(search_path: str) -> Sandbox:
    """Try the backends, best first; an `Unconfined` that refuses policies when none works."""
    reasons: list[str] = []
    program = bubblewrap.find_program(search_path)
    if program is None:
        reasons.append("bubblewrap is not installed")
    else:
        reason = bubblewrap.why_not(program)
        if reason is None:
            return bubblewrap.Bubblewrap(program)
        reasons.append(f"bubblewrap does not work ({reason})")
    reason = namespaces.why_not()
    if reason is None:
        return namespaces.Namespaces()
    reasons.append(f"user namespaces are not available ({reason})")
    reason = landlock.why_not()
    if reason is None:
        return landlock.Landlock()
    reasons.append(f"Landlock is not available ({reason})")
    return Unconfined(
        SandboxReport(
            backend="none",
            enforced=False,
            why_not="no sandbox can be enforced here: " + "; ".join(reasons),
            remedy=landlock.REMEDY,
        )
    )


__all__ = ["ContainerIsSandbox", "ProbedSandbox", "SandboxUnavailable", "probe"]
