"""Permission for one command or patch: decided by rule, by an earlier answer, or by a person.

One object per thread: it remembers what was accepted for the session and what was granted besides.
Shows the item of a command before it asks about it, and completes it when the command is not to
run. What is asked about when is decided in `approval_rules`.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from treadle.domain.approvals import digest
from treadle.domain.items import CommandExecution, FileChange
from treadle.domain.policy import DangerFullAccess, SandboxPolicy
from treadle.domain.questions import (
    AcceptWithRule,
    CommandAnswer,
    CommandQuestion,
    FileAnswer,
    FileQuestion,
)
from treadle.engine.tools.approval_rules import (
    Ask,
    CommandRequest,
    Refuse,
    RunSandboxed,
    decide_command,
    decide_patch,
)
from treadle.engine.tools.exec_policy import ExecPolicy
from treadle.engine.tools.grants import Grants
from treadle.engine.tools.tool import NotAnswered, ToolContext, ToolOutput


class RuleBook(Protocol):
    """The prefix rules in force."""

    @property
    def policy(self) -> ExecPolicy:
        """The rules of this moment."""
        ...

    def allow(self, prefix: Sequence[str]) -> None:
        """Allow a command prefix from now on, and keep it; raises OSError when it cannot be."""
        ...


class NoRules:
    """No rules, and nowhere to keep one."""

    def __init__(self) -> None:
        """Begin without any."""
        self.policy = ExecPolicy()

    def allow(self, prefix: Sequence[str]) -> None:
        """Refuse, as nothing would remember it."""
        raise OSError(f"no file of rules to keep {list(prefix)} in")


class Go(msgspec.Struct, frozen=True):
    """A command may run, under this policy."""

    policy: SandboxPolicy
    announced: bool = False
    """Whether its item was started already."""
    notes: tuple[str, ...] = ()
    """What the model is told besides the output."""


class Permits:
    """What the tools of one thread may do."""

    def __init__(self, rules: RuleBook | None = None) -> None:
        """Decide by `rules`; without any, nothing is remembered past the thread."""
        self.rules = rules or NoRules()
        self.grants = Grants()
        self._commands: set[tuple[object, ...]] = set()
        self._files: set[str] = set()

    @property
    def lasting(self) -> bool:
        """Whether anything was granted for longer than a turn."""
        return bool(self._commands or self._files) or self.grants.lasting

    # ------------------------------------------------------------------ commands

    async def command(
        self, request: CommandRequest, item: CommandExecution, context: ToolContext
    ) -> Go | ToolOutput:
        """Permission for a command; otherwise what the model is told.

        Args:
            request: the command.
            item: how people see it; started here when a person is asked.
            context: the call's surroundings.
        """
        settings = context.settings
        decision = decide_command(
            request, settings.approval_policy, settings.sandbox, self.rules.policy
        )
        if isinstance(decision, Refuse):
            context.asker.declined(_question(request, item, context), decision.text)
            return _rejected(decision.text)
        if isinstance(decision, RunSandboxed):
            return Go(self.grants.widen(settings.sandbox, context.turn_id))
        key = (request.argv, request.cwd, request.escalated)
        if not isinstance(decision, Ask) or key in self._commands:
            return Go(DangerFullAccess())
        context.reporter.started(item)
        question = _question(request, item, context, decision)
        try:
            answer = await context.asker.ask(question)
        except asyncio.CancelledError:
            context.reporter.completed(msgspec.structs.replace(item, status="declined"))
            raise
        except NotAnswered as error:
            status = "declined" if error.expired else "failed"
            reason = str(error) if error.expired else None
            context.reporter.completed(
                msgspec.structs.replace(item, status=status, aggregated_output=reason)
            )
            return _rejected(str(error))
        assert isinstance(answer, CommandAnswer)
        return self._answered(answer, key, item, context)

    def _answered(
        self,
        answer: CommandAnswer,
        key: tuple[object, ...],
        item: CommandExecution,
        context: ToolContext,
    ) -> Go | ToolOutput:
        match answer.decision:
            case "accept":
                return Go(DangerFullAccess(), announced=True)
            case "acceptForSession":
                self._commands.add(key)
                return Go(DangerFullAccess(), announced=True)
            case AcceptWithRule(accept_with_execpolicy_amendment=allowed):
                note = self._keep_rule(allowed.execpolicy_amendment)
                return Go(DangerFullAccess(), announced=True, notes=(note,))
            case decision:
                context.reporter.completed(msgspec.structs.replace(item, status="declined"))
                if decision == "cancel":
                    context.asker.end_turn()
                return _rejected("rejected by user")

    def _keep_rule(self, prefix: tuple[str, ...]) -> str:
        """Keep a rule; the note that tells the model of it, or that it holds for once only."""
        shown = msgspec.json.encode(prefix).decode()
        if not prefix or not all(prefix):
            return "The command was approved once; an empty prefix is no rule."
        try:
            self.rules.allow(prefix)
        except OSError:
            return f"The command was approved once; the prefix could not be saved: {shown}"
        return f"Approved command prefix saved:\n- {shown}"

    # ------------------------------------------------------------------ patches

    async def patch(
        self, item: FileChange, paths: Sequence[str], refusal: str | None, context: ToolContext
    ) -> ToolOutput | None:
        """Permission for a patch whose item is shown: None, or what the model is told.

        Args:
            item: the item, started by the caller; completed here when the patch is refused.
            paths: every file it touches, with links resolved.
            refusal: why the sandbox policy does not allow it; None when it does.
            context: the call's surroundings.
        """
        decision = decide_patch(
            context.settings.approval_policy,
            inside=refusal is None,
            refusal=refusal or "",
            remembered=self._files.issuperset(paths),
        )
        if isinstance(decision, Refuse):
            return _not_patched(item, "failed", decision.text, context)
        if not isinstance(decision, Ask):
            return None
        question = FileQuestion(
            thread_id=context.thread_id,
            turn_id=context.turn_id,
            item_id=item.id,
            asked_at_ms=int(context.clock.now() * 1000),
            effect=digest("patch", item.changes),
        )
        try:
            answer = await context.asker.ask(question)
        except asyncio.CancelledError:
            context.reporter.completed(msgspec.structs.replace(item, status="declined"))
            raise
        except NotAnswered as error:
            status = "declined" if error.expired else "failed"
            return _not_patched(item, status, f"patch rejected: {error}", context)
        assert isinstance(answer, FileAnswer)
        if answer.decision in ("decline", "cancel"):
            output = _not_patched(item, "declined", "patch rejected by user", context)
            if answer.decision == "cancel":
                context.asker.end_turn()
            return output
        if answer.decision == "acceptForSession":
            self._files.update(paths)
        return None


def _question(
    request: CommandRequest,
    item: CommandExecution,
    context: ToolContext,
    ask: Ask | None = None,
) -> CommandQuestion:
    """The question about a command."""
    return CommandQuestion(
        thread_id=context.thread_id,
        turn_id=context.turn_id,
        item_id=item.id,
        asked_at_ms=int(context.clock.now() * 1000),
        effect=digest("command", request.argv, request.cwd),
        command=item.command,
        cwd=item.cwd,
        actions=tuple(item.command_actions),
        reason=ask.reason if ask is not None else request.justification,
        amendment=ask.amendment if ask is not None else None,
    )


def _not_patched(item: FileChange, status: str, text: str, context: ToolContext) -> ToolOutput:
    context.reporter.completed(msgspec.structs.replace(item, status=status))
    return ToolOutput(text=text, success=False)


def _rejected(reason: str) -> ToolOutput:
    """A command that was not run, in the words of the references."""
    quoted = reason.replace('"', "'")
    return ToolOutput(
        text=f'exec_command failed: CreateProcess {{ message: "Rejected(\\"{quoted}\\")" }}',
        success=False,
    )
