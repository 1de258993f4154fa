"""No sandbox of ours: commands start as they are, for policies that want none enforced here.

Serves full access and the external sandbox (somebody else's fence around all of us). Refuses every
other policy; it never stands in for a sandbox that is missing.
"""

from collections.abc import Mapping, Sequence

from treadle.domain.policy import DangerFullAccess, ExternalSandbox, SandboxPolicy
from treadle.engine.sandbox.launch_plan import LaunchPlan, SandboxReport, SandboxUnavailable


class Unconfined:
    """Plain starts."""

    def __init__(self, report: SandboxReport | None = None) -> None:
        """Say `report` when asked; by default that there is no backend."""
        self._report = report or SandboxReport(backend="none", enforced=False)

    @property
    def report(self) -> SandboxReport:
        """What the probe found."""
        return self._report

    def plan(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        policy: SandboxPolicy,
        workspace_roots: Sequence[str],
    ) -> LaunchPlan:
        """The command as it is; raises SandboxUnavailable when the policy asks for a fence."""
        del workspace_roots
        if not isinstance(policy, DangerFullAccess | ExternalSandbox):
            why = self._report.why_not or "no sandbox is in use"
            remedy = self._report.remedy or "choose danger-full-access to run without one"
            raise SandboxUnavailable(f"{why}; {remedy}")
        return LaunchPlan(argv=tuple(argv), cwd=cwd, env=dict(env))
