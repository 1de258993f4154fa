"""Who decides about an action: nobody, the policy, a rule, or a person. Pure.

The references' behaviour (0.129.0, 0.169.0) as tables, with two changes: plain readers run under
`untrusted`, and an accepted command runs once, outside the sandbox. Asks nobody itself.
"""

from collections.abc import Sequence

import msgspec

from treadle.domain.policy import (
    ApprovalPolicy,
    DangerFullAccess,
    ExternalSandbox,
    SandboxPolicy,
)
from treadle.engine.tools.command_safety import deletes_by_force, only_reads
from treadle.engine.tools.exec_policy import ExecPolicy, PrefixRule, strictest
from treadle.engine.tools.shell_words import Commands, script_commands

_GENERAL_PROGRAMS = (
    "bash sh zsh dash env sudo doas python python3 node perl ruby php git rm xargs ssh eval"
)
"""Never proposed as a whole prefix: with them everything would be allowed."""


class RunSandboxed(msgspec.Struct, frozen=True):
    """It runs within the sandbox policy; nobody is asked."""


class RunFree(msgspec.Struct, frozen=True):
    """It runs outside the sandbox; a rule or an earlier decision allows it."""


class Ask(msgspec.Struct, frozen=True):
    """A person decides; `amendment` is a prefix that could be allowed for good."""

    amendment: tuple[str, ...] | None = None
    reason: str | None = None


class Refuse(msgspec.Struct, frozen=True):
    """It does not run; `text` tells the model why."""

    text: str


Decision = RunSandboxed | RunFree | Ask | Refuse


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A command before it is decided about."""

    argv: tuple[str, ...]
    cwd: str
    escalated: bool = False
    """Whether the model asks for it to run outside the sandbox."""
    justification: str | None = None
    prefix: tuple[str, ...] | None = None
    """A prefix that the model proposes to allow for good."""
    commands: Commands | None = None
    """The plain commands in it, which are read from it; None when it is more than that."""

    def __post_init__(self) -> None:
        """Read the command once."""
        msgspec.structs.force_setattr(self, "commands", script_commands(self.argv))


def granular(policy: ApprovalPolicy, category: str) -> bool:
    """Whether a policy lets questions of a category be asked."""
    if policy == "never":
        return False
    if isinstance(policy, dict):
        chosen = policy.get("granular")
        return isinstance(chosen, dict) and bool(chosen.get(category))  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]
    return True


def decide_command(
    request: CommandRequest, policy: ApprovalPolicy, sandbox: SandboxPolicy, rules: ExecPolicy
) -> Decision:
    """What happens to a command.

    Args:
        request: the command.
        policy: when a person is asked.
        sandbox: what commands may do unasked.
        rules: the prefix rules in force; the strictest match in a script counts, and `allow` only
            when every command of the script is allowed or plainly reads.
    """
    commands = request.commands or (request.argv,)
    found = [(command, rules.judge(command)) for command in commands]
    rule = strictest([rule for _, rule in found if rule is not None])
    if rule is not None and rule.verdict != "allow":
        return _by_rule(rule, request, policy)
    unruled = [command for command, matched in found if matched is None]
    if rule is not None and all(only_reads(command) for command in unruled):
        return RunFree()
    if any(deletes_by_force(command) for command in unruled):
        return _forced_delete(request, policy)
    if policy == "untrusted":
        if not request.escalated and all(only_reads(command) for command in commands):
            return RunSandboxed()
        return Ask(_amendment(request), request.justification)
    unfenced = isinstance(sandbox, DangerFullAccess | ExternalSandbox)
    if not request.escalated or unfenced:
        return RunSandboxed()
    if not granular(policy, "sandbox_approval"):
        return Refuse(
            "command rejected: approvals are switched off, so nothing runs outside the sandbox; "
            "do without `sandbox_permissions`"
        )
    return Ask(_amendment(request), request.justification)


def _by_rule(rule: PrefixRule, request: CommandRequest, policy: ApprovalPolicy) -> Decision:
    words = " ".join("|".join(choices) for choices in rule.pattern)
    why = f": {rule.justification}" if rule.justification else ""
    if rule.verdict == "forbidden":
        return Refuse(f"command rejected: a rule forbids `{words}`{why}")
    if not granular(policy, "rules"):
        return Refuse(
            f"command rejected: a rule wants `{words}` to be approved, and approvals are switched "
            f"off{why}"
        )
    return Ask(None, request.justification or rule.justification)


def _forced_delete(request: CommandRequest, policy: ApprovalPolicy) -> Decision:
    if granular(policy, "sandbox_approval"):
        return Ask(None, request.justification)
    return Refuse(
        "command rejected: it deletes without asking back, and approvals are switched off; "
        "delete single files without force"
    )


def _amendment(request: CommandRequest) -> tuple[str, ...] | None:
    """The prefix to propose: the model's where it fits, else the whole of a single command."""
    if request.commands is None or len(request.commands) != 1:
        return None
    command, wanted = request.commands[0], request.prefix
    if wanted and command[: len(wanted)] == wanted and _narrow(wanted):
        return wanted
    return command if _narrow(command) else None


def _narrow(prefix: Sequence[str]) -> bool:
    return len(prefix) > 1 or prefix[0].rpartition("/")[2] not in _GENERAL_PROGRAMS.split()


def decide_patch(
    policy: ApprovalPolicy, *, inside: bool, refusal: str, remembered: bool
) -> RunFree | Ask | Refuse:
    """What happens to a patch.

    Args:
        policy: when a person is asked.
        inside: whether it stays where the sandbox policy lets be written.
        refusal: what the model is told when nobody may be asked.
        remembered: whether all its files were accepted for the session.
    """
    if remembered:
        return RunFree()
    if policy == "untrusted":
        return Ask()
    if inside:
        return RunFree()
    return Ask() if granular(policy, "sandbox_approval") else Refuse(refusal)
