"""From options and a run to what a backend needs: home, spool folder, command line, environment.

Reads the settings that reach a runner by environment (under either prefix) and says what may be
announced of them. Starts nothing and writes nothing but the home's own files.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from treadle.domain.failures import Failure, FailureKind
from treadle.runner.home import AgentHome, SecretUnavailable, keep_threads, prepare_home
from treadle.runner.manager_types import Run
from treadle.runner.options import RunnerOptions
from treadle.runner.session import Plan

SPOOL_FOLDER = ".treadle-runner"
DEFAULT_ROLLOUT_FOLDER = "sessions"
_OURS = ("TREADLE_", "AGENTRUN_")
_PATH_ENDINGS = ("_HOME", "_FILE", "_DIR")
_PRIVATE_WORDS = ("TOKEN", "SECRET", "PASSWORD")


class Setup:
    """What one run's backend is started with."""

    def __init__(self, options: RunnerOptions, run: Run) -> None:
        """Work for `run` as `options` say."""
        self._options = options
        self._run = run
        self._profile = run.backend_profile

    def home(self, scratch: Path) -> AgentHome | Failure:
        """The agent's home, or why there is none; without a configured one it is in `scratch`."""
        asked = self._options.backend_profile
        if asked is not None and asked != self._profile:
            return Failure(
                FailureKind.SECRET_UNAVAILABLE,
                f"This runner serves the profile {asked}, not {self._profile}; "
                "there is no fall-back from one profile to another.",
            )
        path = self._home_path(scratch)
        source = self._options.setting("CODEX_SECRET_HOME")
        try:
            home = prepare_home(
                path,
                Path(source[1]) if source else None,
                profile=self._profile,
                required=self._required_files(),
            )
        except SecretUnavailable as missing:
            return Failure(FailureKind.SECRET_UNAVAILABLE, str(missing))
        kept = self._session_folder()
        if kept is None:
            return home
        try:
            keep_threads(home.path, kept)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            return Failure(
                FailureKind.SESSION_STORE_EVICTED, f"The session volume cannot be used: {reason}."
            )
        return home

    def spool_folder(self, home: AgentHome | Failure, scratch: Path) -> Path:
        """Where events wait; on the home's volume if that can be written, so that they survive."""
        if self._options.spool_dir is not None:
            return Path(self._options.spool_dir)
        kept = self._session_folder()
        if kept is not None and os.access(kept, os.W_OK):
            return kept / SPOOL_FOLDER
        if isinstance(home, AgentHome) and os.access(home.path, os.W_OK):
            return home.path / SPOOL_FOLDER
        return scratch / SPOOL_FOLDER

    def own_secrets(self) -> list[str]:
        """Values of the runner's own settings that must not be told."""
        values = [
            value
            for name, value in self._options.env.items()
            if _is_private(name) and not name.endswith(_PATH_ENDINGS)
        ]
        return [*values, self._options.token] if self._options.token else values

    def plan(self, home: AgentHome) -> Plan:
        """How the backend is started."""
        policy, workspace = self._run.execution_policy, self._run.workspace_ref
        env = {name: value for name, value in self._options.env.items() if not _is_private(name)}
        env |= {"CODEX_HOME": str(home.path), "TREADLE_HOME": str(home.path)}
        return Plan(
            argv=self._options.backend_argv,
            cwd=workspace.path if workspace and workspace.path else None,
            env=env,
            sandbox=self._sandbox()["effective"],
            approval=policy.approval,
            network=policy.network,
            has_session_volume=self._options.setting("SESSION_PVC_NAME") is not None,
        )

    def announcements(self, home: AgentHome) -> Iterator[tuple[str, dict[str, Any]]]:
        """Phases to tell before the backend starts."""
        yield (
            "codex-app-server-starting",
            {
                "backendProfile": self._profile,
                "profile": home.facts,
                "sandbox": self._sandbox(),
            },
        )
        volume = self._options.setting("SESSION_PVC_NAME")
        if volume is not None:
            rollouts = self._value("CODEX_ROLLOUT_SUBDIR") or DEFAULT_ROLLOUT_FOLDER
            yield (
                "codex-rollout-storage-mounted",
                {
                    "pvcName": volume[1],
                    "pvcNamespace": self._value("SESSION_PVC_NAMESPACE"),
                    "mountPath": self._value("SESSION_PVC_MOUNT_PATH"),
                    "codexRolloutSubdir": rollouts,
                    "valuesPrinted": False,
                },
            )

    def _sandbox(self) -> dict[str, str | None]:
        requested = self._run.execution_policy.sandbox
        override = self._options.setting("CODEX_SHELL_SANDBOX")
        return {
            "requested": requested,
            "effective": override[1] if override else requested,
            "overrideSource": override[0] if override else None,
        }

    def _home_path(self, scratch: Path) -> Path:
        env = self._options.env
        path = self._options.codex_home or env.get("TREADLE_HOME") or env.get("CODEX_HOME")
        return Path(path) if path else scratch / "home"

    def _session_folder(self) -> Path | None:
        """Where threads and spool are kept that outlive the home."""
        value = self._value("SESSION_FOLDER")
        return Path(value) if value else None

    def _required_files(self) -> list[str] | None:
        scope = self._run.execution_policy.secret_scope
        if scope is None or scope.provider_credentials is None:
            return None
        for credential in scope.provider_credentials:
            if credential.profile == self._profile:
                return credential.secret_ref.keys
        return []

    def _value(self, name: str) -> str | None:
        found = self._options.setting(name)
        return found[1] if found else None


def _is_private(name: str) -> bool:
    """Settings of ours that a backend has no business with."""
    return name.startswith(_OURS) and any(word in name for word in _PRIVATE_WORDS)
