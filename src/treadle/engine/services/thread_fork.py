"""Threads that begin with a history: forks of other threads, and histories that a client brings.

A fork's log begins with a copy of its source's records, so that it stands alone: both reference
versions open it, and its source can go. Inbox and goal stay with the source.
"""

from typing import Any, cast

import msgspec

from treadle.domain import history
from treadle.domain.agents import AGENT_LINE
from treadle.domain.approvals import APPROVAL_LINE
from treadle.domain.budgets import BUDGET_LINE
from treadle.domain.event_log import count_events
from treadle.domain.goals import GOAL_LINE
from treadle.domain.inbox import INBOX_LINE
from treadle.domain.records import (
    Foreign,
    ModelItem,
    SettingsApplied,
    ThreadCreated,
    ThreadRecord,
    TurnEnded,
)
from treadle.engine.services.errors import Refused, ThreadIsArchived, ThreadNotFound
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.planning import Overrides
from treadle.engine.services.thread_restore import mend, restore
from treadle.engine.services.threads import Client, Opened, Threads
from treadle.engine.store.thread_store import ThreadInfo, ThreadPatch

_NOT_COPIED = frozenset(
    (AGENT_LINE, APPROVAL_LINE, BUDGET_LINE, GOAL_LINE, INBOX_LINE, "session_meta")
)


class ForkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks of a fork: at most one of the two turn ids."""

    thread_id: str
    overrides: Overrides
    client: Client
    path: str | None = None
    """The source's log, which wins over the id."""
    last_turn_id: str | None = None
    before_turn_id: str | None = None
    ephemeral: bool = False
    exclude_turns: bool = False
    thread_source: str | None = None


class Forks:
    """Makes threads that begin with a history."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def fork(self, asked: ForkRequest) -> Opened:
        """A new thread that knows what another one knew.

        Raises:
            ThreadNotFound, ThreadIsArchived: there is no active source with a log.
            Refused: the named turn is unknown or still runs, or the request contradicts itself.
            PlanRejected: the configuration makes no runnable thread.
        """
        threads = self._threads
        if asked.last_turn_id and asked.before_turn_id:
            raise Refused("`beforeTurnId` cannot be combined with `lastTurnId`")
        source_id = await threads.store.adopt(asked.path) if asked.path else asked.thread_id
        source = threads.get(source_id)
        if source is not None and source.ephemeral:
            raise ThreadNotFound(source_id)
        records = await threads.records(source_id)
        info = await threads.store.read(source_id)
        if info.archived:
            raise ThreadIsArchived(source_id)
        created = _head(records, info)
        if asked.ephemeral and not asked.exclude_turns and created.history_mode == "paginated":
            raise Refused("an ephemeral fork of a paginated thread requires `excludeTurns: true`")
        kept = _cut(records, asked, source)
        return await self._begin(asked, created, info, kept)

    async def _begin(
        self, asked: ForkRequest, source: ThreadCreated, info: ThreadInfo, kept: list[ThreadRecord]
    ) -> Opened:
        threads, overrides = self._threads, asked.overrides
        live = threads.get(source.thread_id)
        past = history.LogFold(kept)
        sealed = live.agent.settings if live is not None else past.settings
        plan = threads.planner.plan(overrides, sealed)
        thread = await threads.begin(
            plan,
            asked.client,
            ephemeral=asked.ephemeral,
            thread_source=asked.thread_source,
            forked_from_id=source.thread_id,
            base_instructions=overrides.base_instructions or source.base_instructions,
            developer_instructions=(
                overrides.developer_instructions or source.developer_instructions
            ),
            dynamic_tools=source.dynamic_tools,
        )
        thread.given = overrides
        now = threads.clock.now()
        added = [*mend(past, kept, now), SettingsApplied(at=now, settings=plan.settings)]
        past.add(added)
        records = [*kept, *added]
        thread.log.append(records)
        patch = ThreadPatch(preview=info.preview, name=info.name)
        await thread.log.change(patch)
        turns = restore(thread, records, past)
        usage = None if asked.exclude_turns else past.usage
        threads.feed.begin(thread.thread_id, count_events(records))
        last_seq = threads.feed.position(thread.thread_id)
        return Opened(thread, plan, turns, usage, last_seq=last_seq)

    async def from_items(
        self, thread_id: str, items: list[dict[str, Any]], overrides: Overrides, client: Client
    ) -> Opened:
        """A new thread whose model knows these items; they are no turns.

        Raises:
            Refused: `thread_id` runs already, or an item is none.
            PlanRejected: the configuration makes no runnable thread.
        """
        threads = self._threads
        if not items:
            raise Refused("history must not be empty")
        for at, item in enumerate(items):
            problem = item_problem(item)
            if problem is not None:
                raise Refused(f"history[{at}] is not a valid response item: {problem}")
        if threads.get(thread_id) is not None:
            raise Refused(
                f"cannot resume thread {thread_id} with history while it is already running"
            )
        plan = threads.planner.plan(overrides, None)
        thread = await threads.begin(
            plan,
            client,
            base_instructions=plan.base_instructions,
            developer_instructions=plan.developer_instructions,
        )
        thread.given = overrides
        now = threads.clock.now()
        records: list[ThreadRecord] = [ModelItem(at=now, item=item) for item in items]
        records.append(SettingsApplied(at=now, settings=plan.settings))
        thread.log.append(records)
        await thread.log.change(ThreadPatch(preview=_first_words(items)))
        turns = restore(thread, records)
        return Opened(thread, plan, turns, last_seq=threads.feed.position(thread.thread_id))


def item_problem(item: Any) -> str | None:
    """What keeps an object from being an item of a model's context; None when nothing does.

    Types that are not known here are the provider's business.
    """
    if not isinstance(item, dict):
        return "it is no object"
    fields: dict[str, Any] = item  # pyright: ignore[reportUnknownVariableType] - raw JSON
    if not isinstance(fields.get("type"), str):
        return "missing field `type`"
    needed = {
        "message": ("role", "content"),
        "function_call": ("name", "arguments", "call_id"),
        "function_call_output": ("call_id", "output"),
        "custom_tool_call": ("name", "input", "call_id"),
        "custom_tool_call_output": ("call_id", "output"),
    }
    for name in needed.get(fields["type"], ()):
        if fields.get(name) is None:
            return f"missing field `{name}`"
    return None


def _head(records: list[ThreadRecord], info: ThreadInfo) -> ThreadCreated:
    return records[0] if records and isinstance(records[0], ThreadCreated) else info.created


def _cut(
    records: list[ThreadRecord], asked: ForkRequest, source: LoadedThread | None
) -> list[ThreadRecord]:
    """What the fork begins with: the log up to the boundary that was asked for."""
    running = source.running.state.turn_id if source and source.running else None
    boundary = asked.last_turn_id or asked.before_turn_id
    if boundary:
        surplus = history.count_from(records, boundary)
        if not surplus:
            raise Refused(f"turn not found: {boundary}")
        if asked.last_turn_id:
            if boundary == running:
                raise Refused(f"lastTurnId '{boundary}' identifies an in-progress turn")
            surplus -= 1
        records = history.drop_turns(records, surplus)
    kept = [record for record in records if not _stays(record)]
    if kept and isinstance(kept[-1], TurnEnded) and kept[-1].completed_at is None:
        kept.pop()  # the log does not say so: its reader only took it to be over
    return kept


def _stays(record: ThreadRecord) -> bool:
    """Whether a record belongs to the source alone."""
    return isinstance(record, ThreadCreated) or (
        isinstance(record, Foreign) and record.type in _NOT_COPIED
    )


def _first_words(items: list[dict[str, Any]]) -> str:
    for item in items:
        if item.get("type") == "message" and item.get("role") == "user":
            parts = cast("list[Any]", item["content"] if isinstance(item["content"], list) else [])
            shaped = [cast("dict[str, Any]", part) for part in parts if isinstance(part, dict)]
            text = "".join(str(part.get("text", "")) for part in shaped)
            if text.strip():
                return text.strip()
    return ""
