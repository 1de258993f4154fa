"""Which sandbox this machine can do, found by trying, and only when one is first needed.

Backends load when they are tried. Fails closed: without a backend, a policy that asks for a fence
raises. Where a container already is the sandbox, the operator says so and commands start plainly,
reported as `external`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

from treadle.domain.policy import DangerFullAccess, ExternalSandbox, SandboxPolicy
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

    def __init__(self, search_path: str, choice: str = "auto") -> None:
        """Look for helper programs in `search_path` (the server's PATH); `choice` as in `probe`."""
        self._search_path = search_path
        self._choice = choice
        self._chosen: Sandbox | None = None
        self._probing = threading.Lock()
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
        with self._probing:  # commands of clients are planned in threads
            if self._chosen is None:
                self._chosen = probe(self._search_path, self._choice)
            return self._chosen


def probe(search_path: str, choice: str = "auto") -> Sandbox:
    """Try the backends, best first; an `Unconfined` that refuses policies when none works.

    Args:
        search_path: where to look for helper programs.
        choice: the one backend to try, or `auto` for all.
    """
    reasons: list[str] = []
    for name, attempt in _ATTEMPTS.items():
        if choice in ("auto", name):
            found = attempt(search_path)
            if not isinstance(found, str):
                return found
            reasons.append(found)
    from treadle.engine.sandbox.landlock import REMEDY

    return Unconfined(
        SandboxReport(
            backend="none",
            enforced=False,
            why_not="no sandbox can be enforced here: " + "; ".join(reasons),
            remedy=REMEDY,
        )
    )


def _bubblewrap(search_path: str) -> Sandbox | str:
    from treadle.engine.sandbox import bubblewrap

    program = bubblewrap.find_program(search_path)
    if program is None:
        return "bubblewrap is not installed"
    reason = bubblewrap.why_not(program)
    return bubblewrap.Bubblewrap(program) if reason is None else f"bubblewrap fails ({reason})"


def _namespaces(_search_path: str) -> Sandbox | str:
    from treadle.engine.sandbox import namespaces

    reason = namespaces.why_not()
    return namespaces.Namespaces() if reason is None else f"no user namespaces ({reason})"


def _landlock(_search_path: str) -> Sandbox | str:
    from treadle.engine.sandbox import landlock

    reason = landlock.why_not()
    return landlock.Landlock() if reason is None else f"no Landlock ({reason})"


_ATTEMPTS: dict[str, Callable[[str], Sandbox | str]] = {
    "bubblewrap": _bubblewrap,
    "namespaces": _namespaces,
    "landlock": _landlock,
}
"""Backends, best first, and what makes one or says why not."""

__all__ = ["ContainerIsSandbox", "ProbedSandbox", "SandboxUnavailable", "probe"]
