"""A review turn: a reviewer with a context of its own looks, and its findings join the thread.

The reviewer is a conversation beside the thread's: it has the thread's model, tools and settings,
and its commands are items of the thread's turn. What it says while it works is neither shown nor
kept; its final answer becomes the review's text.
"""

from typing import Any

import msgspec

from treadle.domain.events import TextDelta, ThreadEvent
from treadle.domain.items import (
    AgentMessage,
    EnteredReviewMode,
    ExitedReviewMode,
    TextInput,
    ThreadItem,
    UserMessage,
)
from treadle.engine.agent import prompt, review_text
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.conversation import Conversation
from treadle.engine.agent.ports import Announcer
from treadle.engine.agent.turn_life import Stop
from treadle.engine.agent.turn_loop import tell_surroundings
from treadle.engine.agent.turn_parts import TurnParts
from treadle.engine.agent.turn_report import TurnJournal, TurnReport
from treadle.kit.mint import new_id


class ReviewOrder(msgspec.Struct, frozen=True):
    """What is reviewed."""

    label: str
    """For people, such as `current changes`."""
    question: str
    """For the reviewer."""


class _Quiet:
    """An announcer that leaves out the reviewer's own words."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer

    def publish(self, event: ThreadEvent) -> None:
        if isinstance(event, TextDelta) and event.channel == "item/agentMessage/delta":
            return
        self._announcer.publish(event)

    async def room(self) -> None:
        await self._announcer.room()


class _ReviewerReport(TurnReport):
    """The record keeper of the reviewer: its items are the turn's, its words and context not."""

    def __init__(self, reviewer: AgentThread, turn_id: str, journal: TurnJournal) -> None:
        super().__init__(reviewer, turn_id, journal)
        self._reviewer = reviewer

    def keep(self, item: dict[str, Any]) -> None:
        """Add an item to the reviewer's context alone."""
        self._reviewer.context.append(item)

    def cut_off(self, item: AgentMessage, text: str) -> None:
        """The reviewer's words are not shown, half or whole."""

    def started(self, item: ThreadItem) -> None:
        """An item appeared; messages are not shown."""
        if not isinstance(item, AgentMessage):
            super().started(item)

    def completed(self, item: ThreadItem) -> None:
        """An item is final; a message is remembered as what the reviewer said last."""
        if isinstance(item, AgentMessage):
            self.last_message = item
        else:
            super().completed(item)


class ReviewTurn:
    """The work of a review."""

    def __init__(self, parts: TurnParts, order: ReviewOrder) -> None:
        """Prepare a review of `order`."""
        thread, state = parts.thread, parts.state
        self._thread = thread
        self._state = state
        self._report = parts.report
        self._order = order
        self._reviewer = msgspec.structs.replace(
            thread,
            base_instructions=review_text.GUIDELINES,
            known=[],
            announcer=_Quiet(thread.announcer),
            request_metadata={"subagent_kind": "review"},
        )
        self._quiet_report = _ReviewerReport(self._reviewer, state.turn_id, parts.journal)
        self._conversation = Conversation(
            self._reviewer,
            state,
            self._quiet_report,
            msgspec.structs.replace(parts.tools, reporter=self._quiet_report),
        )
        self._left = False

    def prepare(self) -> None:
        """Tell both models where they are."""
        tell_surroundings(self._thread, self._report, self._state.turn_id)
        self._reviewer.context = prompt.opening(self._thread.settings, self._thread.surroundings)

    def open(self) -> None:
        """Enter review mode with the reviewer's question as the turn's input."""
        self._show(EnteredReviewMode(id=new_id(), review=self._order.label))
        words = TextInput(text=self._order.question)
        self._show(UserMessage(id=new_id(), content=[words]))
        self._quiet_report.keep(prompt.message("user", self._order.question))

    def _show(self, item: ThreadItem) -> None:
        self._report.started(item)
        self._report.completed(item)

    async def carry_out(self) -> None:
        """Let the reviewer work, then tell its findings."""
        await self._thread.tools.ready()
        while True:
            completed = await self._conversation.exchange()
            end_turn = completed.end_turn if completed else None
            if self._state.response_ended(end_turn=end_turn) == "end":
                break
            for note in self._state.take_notes():
                self._quiet_report.keep(note)
        last = self._quiet_report.last_message
        text = review_text.readable(last.text if last else "")
        self._leave(text, text, results=text)

    def _leave(self, review: str, words: str, results: str | None) -> None:
        self._left = True
        # The tokens are the thread's, the size of the reviewer's context is not.
        if self._reviewer.usage != self._thread.usage:
            self._thread.usage = self._reviewer.usage
            self._report.measured(self._thread.context_tokens)
        self._show(ExitedReviewMode(id=new_id(), review=review))
        self._report.keep(prompt.message("user", review_text.history_note(results)))
        self._report.keep(
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": words}],
            }
        )
        self._show(AgentMessage(id=f"msg_{new_id()}", text=words))

    async def stop(self, why: Stop) -> None:
        """Leave review mode without results."""
        await self._conversation.stop("aborted")
        if not self._left:
            words = review_text.INTERRUPTED if why == "interrupted" else review_text.NO_OUTPUT
            self._leave(review_text.NO_OUTPUT, words, results=None)
