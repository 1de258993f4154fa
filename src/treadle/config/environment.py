"""The process's environment as it was at start-up, and the names under which it is known.

A frozen copy: whoever needs a variable gets this value passed in. Knows nothing of `os.environ`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "TREADLE_CODEX_SECRET_HOME": "AGENTRUN_CODEX_SECRET_HOME",
        "TREADLE_CODEX_SHELL_SANDBOX": "AGENTRUN_CODEX_SHELL_SANDBOX",
        "TREADLE_CODEX_ROLLOUT_SUBDIR": "AGENTRUN_CODEX_ROLLOUT_SUBDIR",
        "TREADLE_SESSION_PVC_NAME": "AGENTRUN_SESSION_PVC_NAME",
        "TREADLE_SESSION_PVC_NAMESPACE": "AGENTRUN_SESSION_PVC_NAMESPACE",
        "TREADLE_SESSION_PVC_MOUNT_PATH": "AGENTRUN_SESSION_PVC_MOUNT_PATH",
    }
)
"""Names of our own and their accepted twins; our own wins when both are set."""

DEFAULT_ORIGINATOR_VARIABLE = "CODEX_INTERNAL_ORIGINATOR_OVERRIDE"


@dataclass(frozen=True, slots=True)
class Found:
    """A variable's value and the name it was found under."""

    value: str
    name: str


@dataclass(frozen=True, slots=True)
class Environment:
    """A snapshot of variables. Its repr shows none of them: some are secrets."""

    variables: Mapping[str, str] = field(repr=False)
    working_folder: Path

    def get(self, name: str) -> str | None:
        """The value of a variable, or of its twin; None when unset or empty."""
        found = self.find(name)
        return found.value if found else None

    def find(self, name: str) -> Found | None:
        """As `get`, telling which of the two names it was."""
        for candidate in (name, ALIASES.get(name)):
            if candidate and (value := self.variables.get(candidate)):
                return Found(value, candidate)
        return None

    @property
    def user_home(self) -> Path:
        """The user's home folder, for `~` in paths."""
        return Path(self.variables.get("HOME") or "/")

    def expand(self, path: str, base: Path) -> Path:
        """An absolute path from configuration's spelling: `~` and relative to `base`."""
        if path == "~" or path.startswith("~/"):
            return self.user_home / path[2:]
        return base / path

    def home_folder(self) -> Path:
        """TREADLE_HOME, else CODEX_HOME, else `~/.treadle`; always absolute."""
        named = self.variables.get("TREADLE_HOME") or self.variables.get("CODEX_HOME")
        return self.expand(named or "~/.treadle", self.working_folder)
