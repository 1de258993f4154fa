"""The machine's side of clients' own commands, from configuration."""

import os
from pathlib import Path

from treadle.cli.wiring.sandboxes import Sandboxes
from treadle.config.store import ConfigStore
from treadle.domain.policy import SandboxPolicy
from treadle.engine.sandbox.launch_plan import LaunchPlan


class ConfiguredHost:
    """A `CommandHost` over the configuration of the moment."""

    def __init__(self, config: ConfigStore, sandboxes: Sandboxes) -> None:
        self._config = config
        self._sandboxes = sandboxes

    def folder(self, cwd: str | None) -> str:
        """`cwd` seen from the server's folder."""
        base = self._config.environment.working_folder
        return os.path.normpath(base / cwd) if cwd else str(base)

    def environment(self, *, filtered: bool) -> dict[str, str]:
        """The server's environment; with `filtered` what commands may see of it."""
        variables = self._config.environment.variables
        if not filtered:
            return dict(variables)
        from treadle.engine.tools.command_env import ShellEnvironmentPolicy, inherited

        given = self._config.snapshot(self.folder(None), {}).shell_environment
        policy = ShellEnvironmentPolicy(
            inherit=given.inherit,
            ignore_default_excludes=given.ignore_default_excludes,
            exclude=given.exclude,
            include_only=given.include_only,
            set=dict(given.set),
        )
        return inherited(variables, policy)

    def confine(
        self, argv: list[str], cwd: str, env: dict[str, str], policy: SandboxPolicy | None
    ) -> LaunchPlan:
        """How to start under `policy` (the configured one when None)."""
        safety = self._config.snapshot(self.folder(None), {}).safety
        return self._sandboxes.of(safety.sandbox_backend).plan(
            argv,
            cwd=cwd,
            env=env,
            policy=policy or safety.sandbox,
            workspace_roots=(str(Path(self.folder(None))),),
        )
