"""Writes down and announces what happens in a turn.

The one place where the items, context and usage of a turn become records and events. The tools'
`Reporter`. Decides nothing: the loop and the tools say what happened.
"""

from typing import Any, Protocol

import msgspec

from treadle.domain.events import (
    DiffUpdated,
    ErrorRaised,
    ItemCompleted,
    ItemStarted,
    Noticed,
    PlanUpdated,
    TextDelta,
    ThreadEvent,
    UsageUpdated,
    Warned,
)
from treadle.domain.items import AgentMessage, ThreadItem
from treadle.domain.partials import PartialMessage, partial_record
from treadle.domain.records import (
    ContextReplaced,
    ItemDone,
    ModelItem,
    ThreadRecord,
    TurnContext,
    UsageRecorded,
)
from treadle.domain.turns import ThreadTokenUsage, TokenUsage, TurnError
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.tools.tool import FileJournal


class TurnJournal(FileJournal, Protocol):
    """Remembers files before the turn changes them, and tells the difference."""

    def diff(self) -> str:
        """All changes of the turn so far as one git-style diff; empty without any."""
        ...


class TurnReport:
    """The record keeper of one turn."""

    def __init__(self, thread: AgentThread, turn_id: str, journal: TurnJournal) -> None:
        self._thread = thread
        self._turn_id = turn_id
        self._journal = journal
        self._started: dict[str, int] = {}
        self._diff = ""
        self._silent = False
        self.last_message: AgentMessage | None = None
        self.partials: list[PartialMessage] = []
        """Messages that were cut off with the turn."""

    def fall_silent(self) -> None:
        """Neither write nor tell anything any more: the turn is left as the log has it."""
        self._silent = True

    def _tell(self, event: ThreadEvent) -> None:
        if not self._silent:
            self._thread.announcer.publish(event)

    def record(self, record: ThreadRecord) -> None:
        """Append a record to the thread's log."""
        if self._silent:
            return
        record.at = self._thread.clock.now()
        self._thread.log.append([record])

    def keep(self, item: dict[str, Any]) -> None:
        """Add an item to the model's context, in memory and in the log."""
        self._thread.context.append(item)
        self.record(ModelItem(item=item, turn_id=self._turn_id))

    def replace_context(self, items: list[dict[str, Any]], summary: str) -> None:
        """The model's context is these items from here on, in memory and in the log."""
        thread = self._thread
        self.record(ContextReplaced(message=summary, items=items))
        thread.context = list(items)
        thread.window += 1
        thread.overflow = False
        # The new context begins with an opening made of these settings.
        thread.told = thread.settings
        self.record(TurnContext(turn_id=self._turn_id, settings=thread.settings))

    def _now_ms(self) -> int:
        return int(self._thread.clock.now() * 1000)

    def started(self, item: ThreadItem) -> None:
        """An item appeared."""
        at_ms = self._now_ms()
        self._started[item.id] = item.started_at_ms = at_ms
        self._tell(
            ItemStarted(
                thread_id=self._thread.thread_id, turn_id=self._turn_id, item=item, at_ms=at_ms
            )
        )

    def output(self, item_id: str, delta: str) -> None:
        """A running command said something."""
        self._tell(
            TextDelta(
                thread_id=self._thread.thread_id,
                turn_id=self._turn_id,
                item_id=item_id,
                delta=delta,
                channel="item/commandExecution/outputDelta",
            )
        )

    def typed(self, item_id: str, process_id: str, text: str) -> None:
        """The agent typed into a running command."""
        self._tell(
            Noticed(
                thread_id=self._thread.thread_id,
                method="item/commandExecution/terminalInteraction",
                params={
                    "threadId": self._thread.thread_id,
                    "turnId": self._turn_id,
                    "itemId": item_id,
                    "processId": process_id,
                    "stdin": text,
                },
            )
        )

    def completed(self, item: ThreadItem) -> None:
        """An item is final: into the log first, then announced."""
        at_ms = self._now_ms()
        began = self._started.pop(item.id, at_ms)
        # A copy: what was told of its beginning may not be on the wire yet.
        item = msgspec.structs.replace(item, started_at_ms=began, completed_at_ms=at_ms)
        if isinstance(item, AgentMessage):
            self.last_message = item
        self.record(
            ItemDone(turn_id=self._turn_id, item=item, started_at_ms=began, completed_at_ms=at_ms)
        )
        self._tell(
            ItemCompleted(
                thread_id=self._thread.thread_id, turn_id=self._turn_id, item=item, at_ms=at_ms
            )
        )

    def cut_off(self, item: AgentMessage, text: str) -> None:
        """A message ends here though it is not whole: kept, marked, and never completed."""
        partial = PartialMessage(id=item.id, text=text, phase=item.phase)
        self.partials.append(partial)
        self.record(partial_record(self._turn_id, partial, self._thread.clock.now()))

    def diff_changed(self) -> None:
        """Tell the turn's diff, if it is another than the one told last."""
        diff = self._journal.diff()
        if diff == self._diff:
            return
        self._diff = diff
        self._tell(DiffUpdated(thread_id=self._thread.thread_id, turn_id=self._turn_id, diff=diff))

    def plan_updated(self, explanation: str | None, plan: list[dict[str, Any]]) -> None:
        """The agent's plan changed."""
        self._tell(
            PlanUpdated(
                thread_id=self._thread.thread_id,
                turn_id=self._turn_id,
                explanation=explanation,
                plan=plan,
            )
        )

    def used(self, usage: TokenUsage) -> None:
        """A response used these tokens."""
        thread = self._thread
        thread.usage = thread.usage.plus(usage)
        self._tell_usage(usage)

    def measured(self, context_tokens: int) -> None:
        """The context is now this large, by an estimate and without a response."""
        self._tell_usage(TokenUsage(total_tokens=context_tokens))

    def _tell_usage(self, usage: TokenUsage) -> None:
        thread = self._thread
        thread.context_tokens = usage.total_tokens
        total = ThreadTokenUsage(
            total=thread.usage, last=usage, model_context_window=thread.traits.context_window
        )
        self.record(UsageRecorded(turn_id=self._turn_id, usage=total))
        self._tell(UsageUpdated(thread_id=thread.thread_id, turn_id=self._turn_id, usage=total))

    def warned(self, text: str) -> None:
        """The user should know this."""
        self._tell(Warned(thread_id=self._thread.thread_id, message=text))

    def failed(self, error: TurnError, *, will_retry: bool) -> None:
        """The turn, or an attempt within it, failed."""
        self._tell(
            ErrorRaised(
                thread_id=self._thread.thread_id,
                turn_id=self._turn_id,
                error=error,
                will_retry=will_retry,
            )
        )
