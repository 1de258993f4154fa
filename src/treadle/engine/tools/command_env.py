"""The environment that commands of agents start with: a pure function of what it is given.

Owns the inheritance policy (`[shell_environment_policy]`) and the variables every command gets so
that it neither pages, nor colours, nor asks. Reads no environment itself.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

CORE_NAMES = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TEMP",
        "TMP",
        "TMPDIR",
        "USER",
        "USERNAME",
    }
)
"""What `inherit = "core"` keeps."""

_SECRET_GLOBS = ("*KEY*", "*SECRET*", "*TOKEN*")

_QUIET = {
    "TERM": "dumb",
    "NO_COLOR": "1",
    "COLORTERM": "",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GH_PAGER": "cat",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LC_CTYPE": "C.UTF-8",
}


class ShellEnvironmentPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What of the server's environment a command sees; globs ignore case."""

    inherit: Literal["all", "core", "none"] = "all"
    ignore_default_excludes: bool = True
    """False also hides names with KEY, SECRET or TOKEN in them (as reference 0.169.0)."""
    exclude: tuple[str, ...] = ()
    set: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Given whatever the rest says, except `include_only`."""
    include_only: tuple[str, ...] = ()
    """When there are any, only names that match one are left."""


class CommandIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a command runs for; told to it under our names and the references'."""

    home: str
    version: str
    session_id: str
    thread_id: str


def command_environment(
    base: Mapping[str, str], policy: ShellEnvironmentPolicy, identity: CommandIdentity
) -> dict[str, str]:
    """The whole environment of a command.

    Args:
        base: the server's environment.
        policy: what of it may be seen.
        identity: who the command runs for.
    """
    env = inherited(base, policy)
    env.update({name: value for name, value in _QUIET.items() if name not in policy.set})
    for prefix in ("CODEX", "TREADLE"):
        env[f"{prefix}_CI"] = "1"
        env[f"{prefix}_HOME"] = identity.home
        env[f"{prefix}_VERSION"] = identity.version
        env[f"{prefix}_SESSION_ID"] = identity.session_id
        env[f"{prefix}_THREAD_ID"] = identity.thread_id
    return env


def inherited(base: Mapping[str, str], policy: ShellEnvironmentPolicy) -> dict[str, str]:
    """What `policy` lets through of `base`, and what it sets."""
    env: dict[str, str] = {}
    if policy.inherit == "all":
        env = dict(base)
    elif policy.inherit == "core":
        env = {name: value for name, value in base.items() if name.upper() in CORE_NAMES}
    hidden = policy.exclude
    if not policy.ignore_default_excludes:
        hidden = (*_SECRET_GLOBS, *hidden)
    env = {name: value for name, value in env.items() if not _matches(name, hidden)}
    env.update(policy.set)
    if policy.include_only:
        env = {name: value for name, value in env.items() if _matches(name, policy.include_only)}
    return env


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name.upper(), glob.upper()) for glob in globs)
