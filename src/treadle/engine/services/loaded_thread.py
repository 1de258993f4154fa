"""A thread in memory: its agent state, its writer, and the one turn that may run.

Owns status and metadata of a loaded thread, and is the `Log` its turns write to. Metadata follow
from what is appended (the store never infers them): the first user message makes the preview.
"""

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from treadle.domain.agents import OpenAgents
from treadle.domain.approvals import APPROVAL_LINE, ApprovalFold
from treadle.domain.budgets import BUDGET_LINE, Budget, BudgetFold
from treadle.domain.goals import GOAL_LINE, Goal, latest_goal
from treadle.domain.ids import ThreadId
from treadle.domain.inbox import INBOX_LINE, Inbox, InboxFold
from treadle.domain.items import UserMessage, input_text
from treadle.domain.records import (
    Foreign,
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadCreated,
    ThreadRecord,
)
from treadle.domain.threads import (
    Active,
    ActiveFlag,
    Idle,
    SystemError,
    ThreadStatus,
    ThreadSummary,
)
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.services.planning import Overrides
from treadle.engine.store.thread_store import (
    StoreError,
    ThreadInfo,
    ThreadPatch,
    ThreadStore,
    ThreadWriter,
)
from treadle.engine.tools.tool import ToolContext
from treadle.kit.tasks import TaskScope

if TYPE_CHECKING:
    from treadle.engine.model.model_client import ModelError

logger = logging.getLogger(__name__)


TurnKind = Literal["regular", "compact", "review", "shell"]
"""What a turn does; only a regular one takes input."""


class RunningTurn(msgspec.Struct):
    """The turn in progress, and how to reach into it."""

    state: TurnState
    interrupt: Callable[[], None]
    steered: Callable[[], None]
    """Call it after input has joined the state: the answer in flight is cut short."""
    park: Callable[[], None]
    """Leave the turn as its log has it, to be gone on with by another process."""
    give_up: "Callable[[ModelError], None]"
    """End the turn as failed."""
    kind: TurnKind = "regular"
    tools: ToolContext | None = None
    """What commands use that join the turn."""


class ThreadLog:
    """The log of one loaded thread: appends to the writer and keeps metadata in step."""

    def __init__(self, store: ThreadStore, writer: ThreadWriter, info: ThreadInfo) -> None:
        self._store = store
        self._writer = writer
        self.info = info
        self.on_model_item: Callable[[ModelItem], None] | None = None
        """Hears of each item of the model's context, where a client asked for them."""
        self._inbox = InboxFold()
        self.goal: Goal | None = None
        self.approvals = ApprovalFold()
        self.agents = OpenAgents()
        """Which sub-agents the thread has open."""
        self.budget = BudgetFold()
        """Limits that clients set, and what was spent."""
        self._held: list[ThreadRecord] = []
        self._patch: ThreadPatch | None = None

    @property
    def materialized(self) -> bool:
        """Whether anything is stored yet."""
        return self._writer.materialized

    def append(self, records: list[ThreadRecord]) -> None:
        """Take records in order (see `ThreadWriter.append`)."""
        held, self._held = self._held, []
        self._writer.append([*records, *held])
        for record in records:
            self._observe(record)

    @property
    def inbox(self) -> Inbox:
        """Messages that wait for their turn."""
        return self._inbox.inbox

    def recall(self, records: list[ThreadRecord]) -> None:
        """Begin with what a stored log says of inbox, approvals, sub-agents and goal."""
        self._inbox, self.approvals = InboxFold(), ApprovalFold()
        # Lines of these kinds are few in a long log: whoever looks for some looks at those alone.
        lines = [record for record in records if type(record) is Foreign]
        self.agents, self.budget = OpenAgents(lines), BudgetFold()
        if {record.type for record in lines} & {INBOX_LINE, APPROVAL_LINE, BUDGET_LINE}:
            for record in records:
                self._inbox.add(record)
                self.approvals.add(record)
                self.budget.add(record)
        self.goal = latest_goal(lines)

    def hold(self, record: ThreadRecord) -> None:
        """Take a record that counts from now on and is stored behind the thread's first ones."""
        self._held.append(record)
        self._observe(record)

    async def change(self, patch: ThreadPatch) -> None:
        """Change metadata: at once where the thread is stored, else with its first record."""
        if self._writer.materialized:
            await self.flush()
            self.info = await self._store.update(self.info.thread_id, patch)
            return
        pending = self._pending()
        for name in ThreadPatch.__struct_fields__:
            if (value := getattr(patch, name)) is not msgspec.UNSET:
                setattr(pending, name, value)
                setattr(self.info, name, value)

    def _observe(self, record: ThreadRecord) -> None:
        self._inbox.add(record)
        self.approvals.add(record)
        self.agents.add(record)
        self.budget.add(record)
        if isinstance(record, ModelItem):
            if self.on_model_item is not None:
                self.on_model_item(record)
            return
        if isinstance(record, Foreign) and record.type == GOAL_LINE:
            self.goal = latest_goal([record])
        if isinstance(record, ItemDone) and isinstance(record.item, UserMessage):
            self.touch(record.at, recent=True)
            if not self.info.preview and (text := input_text(record.item.content)):
                self.info.preview = text
                self._pending().preview = text
        elif isinstance(record, SettingsApplied):
            settings = record.settings
            self.info.settings = settings
            self.info.model, self.info.effort = settings.model, settings.effort
            patch = self._pending()
            patch.settings, patch.model, patch.effort = settings, settings.model, settings.effort

    def touch(self, at: float, *, recent: bool = False) -> None:
        """The thread changed at `at` (unix seconds); `recent` when a user spoke."""
        self.info.updated_at = at
        self._pending().updated_at = at
        if recent:
            self.info.recency_at = at
            self._pending().recency_at = at

    def _pending(self) -> ThreadPatch:
        if self._patch is None:
            self._patch = ThreadPatch()
        return self._patch

    async def flush(self) -> None:
        """Everything appended is durable on return; metadata go to the store as well."""
        await self._writer.flush()
        patch, self._patch = self._patch, None
        if patch is not None and self._writer.materialized:
            try:
                self.info = await self._store.update(self.info.thread_id, patch)
            except StoreError:
                # The log is the truth; lists catch up from it.
                logger.warning("metadata of %s not updated", self.info.thread_id, exc_info=True)

    async def close(self) -> None:
        """Flush and release the writer."""
        with contextlib.suppress(StoreError):
            await self.flush()
        await self._writer.close()


class LoadedThread:
    """A thread in memory."""

    def __init__(
        self,
        agent: AgentThread,
        log: ThreadLog,
        created: ThreadCreated,
        *,
        ephemeral: bool,
        path: str | None,
        unload_delay_seconds: float,
    ) -> None:
        self.agent = agent
        self.log = log
        self.created = created
        self.ephemeral = ephemeral
        self.path = path
        self.unload_delay_seconds = unload_delay_seconds
        self.running: RunningTurn | None = None
        self.scope = TaskScope(f"thread {agent.thread_id}")
        self.closing = False
        self.given: Overrides | None = None
        """What its client asked for besides, where the thread can be loaded again by it."""
        self.configured_budget = Budget()
        self.elicitations = 0
        """Questions that a client puts to its user by itself while the thread waits."""
        self._failed = False
        self._flags: tuple[ActiveFlag, ...] = ()

    @property
    def thread_id(self) -> ThreadId:
        """The thread's id."""
        return ThreadId(self.agent.thread_id)

    @property
    def status(self) -> ThreadStatus:
        """What the thread is doing."""
        if self.running is not None or self._flags:
            return Active(active_flags=self._flags)
        return SystemError() if self._failed else Idle()

    @property
    def limits(self) -> Budget:
        """What the thread and its sub-agents may spend."""
        return self.log.budget.limits(self.configured_budget)

    def waiting_on(self, flags: tuple[ActiveFlag, ...]) -> bool:
        """A turn, or a tool that a client called, waits for these; whether it is news."""
        changed = flags != self._flags
        self._flags = flags
        return changed

    def turn_over(self, *, failed: bool) -> None:
        """The running turn has its terminal status."""
        self.running = None
        self._failed = failed
        self._flags = ()

    def last_turn_was(self, *, failed: bool) -> None:
        """What the log's last turn came to: a failed one counts until one succeeds."""
        self._failed = failed

    def summary(self) -> ThreadSummary:
        """The thread as clients see it, without turns."""
        settings, shown = self.agent.settings, summarise(self.log.info)
        shown.status = self.status
        shown.ephemeral = self.ephemeral
        shown.path = self.path
        shown.session_id = self.agent.session_id or shown.session_id
        shown.environments = _environments(settings.cwd, settings.workspace_roots)
        shown.cwd, shown.model, shown.reasoning_effort = (
            settings.cwd,
            settings.model,
            settings.effort,
        )
        shown.extra = self.extra
        shown.can_accept_direct_input = True
        return shown

    @property
    def extra(self) -> dict[str, Any] | None:
        """Treadle's own data on a thread: its budget, where it has one."""
        limits = self.limits
        if limits.unlimited:
            return None
        spent = msgspec.to_builtins(self.log.budget.spent)
        return {"budget": {"limits": msgspec.to_builtins(limits), "spent": spent}}


def summarise(info: ThreadInfo) -> ThreadSummary:
    """The protocol's thread object for a thread that is stored and not loaded."""
    created, git = info.created, info.git
    return ThreadSummary(
        id=info.thread_id,
        session_id=created.session_id or info.thread_id,
        forked_from_id=created.forked_from_id,
        parent_thread_id=created.parent_thread_id,
        preview=info.preview,
        history_mode=created.history_mode,
        model_provider=created.model_provider,
        model=info.model,
        reasoning_effort=info.effort,
        created_at=int(info.created_at),
        updated_at=int(info.updated_at),
        recency_at=int(info.recency_at),
        path=info.path,
        cwd=info.settings.cwd if info.settings is not None else created.cwd,
        cli_version=created.cli_version,
        originator=created.originator,
        source=created.source,
        thread_source=created.thread_source,
        agent_nickname=created.agent_nickname,
        agent_role=created.agent_role,
        git_info=_git(created.git if git is None else git),
        name=info.name,
    )


def _environments(cwd: str, roots: tuple[str, ...]) -> list[dict[str, object]]:
    return [{"environmentId": "local", "cwd": cwd, "runtimeWorkspaceRoots": list(roots or (cwd,))}]


def _git(git: dict[str, object] | None) -> dict[str, object] | None:
    if not git:
        return None
    return {name: git.get(name) for name in ("sha", "branch", "originUrl")}
