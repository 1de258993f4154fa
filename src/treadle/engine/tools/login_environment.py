"""What a login shell makes of an environment, found out once instead of with every command.

Login shells read profiles, which takes half a second on some machines. Here one login shell runs in
the background, inside the sandbox that commands have, and the difference it makes is remembered
until a profile changes: variables, and in bash functions too. Where a profile prints something, or
anything goes wrong, commands get their real login shell.
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from treadle.domain.policy import DangerFullAccess, ExternalSandbox, ReadOnly, SandboxPolicy
from treadle.engine.sandbox.launch_plan import Sandbox, SandboxUnavailable
from treadle.kit.commands import start_command
from treadle.kit.processes import TREE_MARK, SpawnError
from treadle.kit.tasks import TaskScope, give_way

logger = logging.getLogger(__name__)

CAPTURE_SECONDS = 10.0
MAX_OUTPUT_BYTES = 512 << 10
_KEPT = 8

_SCRIPT = (
    'if [ -n "$BASH_VERSION" ]; then '
    'for f in $(compgen -A function); do export -f "$f"; done; command env -0; '
    'else command env -0; if [ -n "$ZSH_VERSION" ]; then typeset +f; fi; fi; exit 0'
)
"""The environment, each variable ended by a zero byte; in bash with functions as variables.

Of zsh the names of functions follow, since those cannot be handed on.
"""

_OWN = frozenset({"_", "SHLVL", "PWD", "OLDPWD", TREE_MARK})
"""What every shell sets for itself."""
_THREAD_NAMES = ("_SESSION_ID", "_THREAD_ID")
_HOME_FILES = (
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
)
_SYSTEM_FILES = ("/etc/profile", "/etc/profile.d", "/etc/bash.bashrc", "/etc/environment")


class Login(msgspec.Struct, frozen=True):
    """What a login shell changes in an environment."""

    set: Mapping[str, str]
    removed: Sequence[str]

    def apply(self, env: Mapping[str, str]) -> dict[str, str]:
        """`env` as a login shell would hand it on."""
        changed = {**env, **self.set}
        for name in self.removed:
            changed.pop(name, None)
        return changed


class _Capture(msgspec.Struct):
    profiles: tuple[object, ...]
    login: Login | None = None
    """None while it runs, and for good when it came to nothing."""
    running: bool = True


class LoginEnvironments:
    """The differences found so far, for one shell."""

    def __init__(self, shell: str) -> None:
        """Look with `shell`, when asked."""
        self.shell = shell
        self._captures: dict[tuple[object, ...], _Capture] = {}
        self._scope = TaskScope("login environment")

    def find(self, env: Mapping[str, str], sandbox: Sandbox, policy: SandboxPolicy) -> Login | None:
        """The difference for `env`, when it is known; else it is looked for in the background.

        Args:
            env: the environment a command starts with.
            sandbox: confines the looking, since profiles may have been written by commands.
            policy: what commands may do; the looking may read, and all only where they may too.
        """
        free = isinstance(policy, DangerFullAccess | ExternalSandbox)
        base = {name: value for name, value in env.items() if not _is_threads_own(name)}
        key = (free, id(sandbox), tuple(sorted(base.items())))
        profiles = _profile_state(env.get("HOME", ""))
        known = self._captures.get(key)
        if known is not None and (known.running or known.profiles == profiles):
            return known.login
        capture = _Capture(profiles)
        self._captures[key] = capture
        while len(self._captures) > _KEPT:
            self._captures.pop(next(iter(self._captures)))
        self._scope.start(
            self._look(capture, base, sandbox, policy if free else ReadOnly()), "look"
        )
        return None

    @property
    def looking(self) -> bool:
        """Whether a login shell runs right now."""
        return len(self._scope) > 0

    async def close(self) -> None:
        """Stop looking."""
        await self._scope.close()

    async def _look(
        self, capture: _Capture, env: dict[str, str], sandbox: Sandbox, policy: SandboxPolicy
    ) -> None:
        try:
            await give_way()
            capture.login = _difference(env, await self._run(env, sandbox, policy))
        except (SpawnError, SandboxUnavailable, TimeoutError) as error:
            logger.info("commands use real login shells: %s", error or type(error).__name__)
        finally:
            capture.running = False

    async def _run(self, env: dict[str, str], sandbox: Sandbox, policy: SandboxPolicy) -> bytes:
        plan = sandbox.plan(
            (self.shell, "-lc", _SCRIPT),
            cwd="/",
            env=env,
            policy=policy,
            workspace_roots=(),
        )
        output = bytearray()

        def heard(data: bytes) -> None:
            if len(output) <= MAX_OUTPUT_BYTES:
                output.extend(data)

        command = start_command(plan.argv, cwd=plan.cwd, env=plan.env, on_output=heard)
        try:
            async with asyncio.timeout(CAPTURE_SECONDS):
                code = await command.wait()
        finally:
            await command.stop()
        return bytes(output) if code == 0 and len(output) <= MAX_OUTPUT_BYTES else b""


def _is_threads_own(name: str) -> bool:
    return name.startswith(("CODEX_", "TREADLE_")) and name.endswith(_THREAD_NAMES)


def _difference(before: Mapping[str, str], output: bytes) -> Login | None:
    """What the captured environment changes; None when the profiles do more than that."""
    *variables, rest = output.split(b"\0")
    if not variables or rest.strip():
        return None
    after: dict[str, str] = {}
    for variable in variables:
        name, equals, value = variable.decode(errors="surrogateescape").partition("=")
        # What a profile prints stands before the first variable and would become part of its name.
        if not equals or not name.isprintable() or " " in name:
            return None
        if name not in _OWN:
            after[name] = value
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    removed = [name for name in before if name not in after and name not in _OWN]
    return Login(changed, removed)


def _profile_state(home: str) -> tuple[object, ...]:
    files = [*(Path(home, name) for name in _HOME_FILES), *_SYSTEM_FILES]
    return tuple(_state(file) for file in files)


def _state(file: str | Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
