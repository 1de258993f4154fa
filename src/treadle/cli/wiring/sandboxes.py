"""The sandboxes of one engine: probed once, and told of when one cannot do it all."""

import asyncio
from typing import Any

from treadle.appserver.subscriptions import Subscriptions
from treadle.config.settings import Config
from treadle.engine.sandbox.launch_plan import Sandbox, SandboxReport
from treadle.kit.tasks import give_way


class Sandboxes:
    """Sandboxes by the configured choice of a backend."""

    def __init__(self, search_path: str) -> None:
        """Look for helper programs in `search_path` (the server's PATH)."""
        self._search_path = search_path
        self._by_choice: dict[str, Sandbox] = {}

    def of(self, choice: str) -> Sandbox:
        """The sandbox for a choice; `none` is the operator's word that a container is the fence.

        It is probed when first used or reported.
        """
        known = self._by_choice.get(choice)
        if known is None:
            from treadle.engine.sandbox.select import ContainerIsSandbox, ProbedSandbox

            known = (
                ContainerIsSandbox()
                if choice == "none"
                else ProbedSandbox(self._search_path, choice)
            )
            self._by_choice[choice] = known
        return known


async def tell_of_sandbox(
    sandboxes: Sandboxes,
    config: Config,
    subscriptions: Subscriptions,
    warnings: list[dict[str, Any]],
) -> None:
    """Probe, and tell every client of now and later when commands are not fenced as configured."""
    safety = config.safety
    if safety.sandbox_backend == "none" or safety.sandbox_mode == "danger-full-access":
        return
    await give_way()
    sandbox = sandboxes.of(safety.sandbox_backend)
    report = await asyncio.to_thread(lambda: sandbox.report)
    warning = as_warning(report)
    if warning is not None:
        warnings.append(warning)
        subscriptions.notify_all("configWarning", warning)


def as_warning(report: SandboxReport) -> dict[str, Any] | None:
    """A report as the parameters of `configWarning`; None when there is nothing to say."""
    if report.why_not is None:
        return None
    summary = (
        f"Commands are fenced by {report.backend}, which cannot do all that a policy may ask."
        if report.enforced
        else "Commands cannot be fenced on this machine: those that ask for it will not run."
    )
    state = "enforced" if report.enforced else "not enforced"
    parts = [f"Backend {report.backend}, {state}: {report.why_not}."]
    if report.remedy:
        parts.append(f"To mend it: {report.remedy}.")
    return {"summary": summary, "details": " ".join(parts), "path": None}
