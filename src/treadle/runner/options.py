"""What a runner is told when it is started, and what it says when it ends.

Names are those of the contract, in snake case. The environment is a parameter: the runner itself
never reads its process's own. Knows where a setting's twin names are looked up, nothing else.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

DEFAULT_BACKEND: tuple[str, ...] = (sys.executable, "-m", "treadle.cli.main", "app-server")


def _nothing() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class InterruptLadder:
    """Seconds after an interrupt at which a backend that ignores it is signalled harder."""

    int_seconds: float = 5.0
    term_seconds: float = 10.0
    kill_seconds: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """How one runner works; durations in milliseconds where the name says so."""

    manager_url: str
    run_id: str | None = None
    """The run to claim; `serve` takes runs from the pool instead."""
    command_id: str | None = None
    """The only turn to run; otherwise the oldest open one."""
    runner_id: str | None = None
    attempt_id: str | None = None
    lease_ms: int = 15_000
    claim_retry_timeout_ms: int = 60_000
    claim_retry_interval_ms: int = 1_000
    codex_command: str | None = None
    codex_args: tuple[str, ...] | list[str] = ()
    codex_home: str | None = None
    """The agent's home; else `TREADLE_HOME` or `CODEX_HOME` of `env`, else a private one."""
    backend_profile: str | None = None
    env: Mapping[str, str] = field(default_factory=_nothing)
    one_shot: bool = False
    """End the run with its first turn."""
    idle_timeout_ms: int = 60_000
    """How long to wait for another command before the run is given back."""
    poll_interval_ms: int = 1_000
    """Pause between polls where the manager does not park them."""
    token: str | None = None
    """API token of the manager."""
    placement: str = "process"
    source_commit: str | None = None
    spool_dir: str | None = None
    """Where events wait until they are acknowledged; else a folder in the home."""
    ladder: InterruptLadder = InterruptLadder()

    def setting(self, name: str) -> tuple[str, str] | None:
        """An environment setting under either prefix: the variable's full name and its value."""
        for prefix in ("TREADLE_", "AGENTRUN_"):
            value = self.env.get(prefix + name)
            if value:
                return prefix + name, value
        return None

    @property
    def backend_argv(self) -> list[str]:
        """The backend's command line."""
        if self.codex_command is None:
            return [*DEFAULT_BACKEND, *self.codex_args]
        return [self.codex_command, *self.codex_args]


class RunnerId(msgspec.Struct, frozen=True):
    """Who ran."""

    id: str


class RunnerResult(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """How a runner ended."""

    terminal_status: str | None
    """Of the last turn: completed, failed, blocked or cancelled; None when none was run."""
    failure_kind: str | None
    runner: RunnerId
    run_id: str | None = None
    stopped: str | None = None
    """Why a runner stopped other than by ending the run: idle-timeout, lease-lost, run-ended..."""
