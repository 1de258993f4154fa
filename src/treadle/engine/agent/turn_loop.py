"""A regular turn: takes input, asks the model, runs its tools, until nothing is left to do.

Performs what `turn_state` decides and compacts the context when it is full; contains no rules of
its own. Beginning and end are the frame's (`turn_life`). The order of records and of announcements
is that of the references.
"""

from collections.abc import Callable, Sequence
from typing import Any

from treadle.domain.approvals import schema_record
from treadle.domain.items import UserInput, UserMessage
from treadle.domain.records import SettingsApplied, TurnContext
from treadle.domain.skills import named_skills
from treadle.engine.agent import prompt
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.compactor import OVERFLOW, Compactor
from treadle.engine.agent.conversation import Conversation
from treadle.engine.agent.turn_life import Stop
from treadle.engine.agent.turn_parts import TurnParts
from treadle.engine.agent.turn_report import TurnReport
from treadle.engine.agent.turn_state import Steer
from treadle.engine.model.model_client import ModelError, ResponseCompleted
from treadle.kit.mint import new_id

LoadImages = Callable[[list[UserInput]], dict[str, str]]
LoadSkill = Callable[[str], str]
"""The text of a skill's file, or a text saying why there is none."""


class TurnLoop:
    """The work of a regular turn."""

    def __init__(
        self,
        parts: TurnParts,
        first: Steer | None,
        *,
        load_images: LoadImages,
        load_skill: LoadSkill,
        output_schema: Any = None,
        calls: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Prepare the work.

        Args:
            parts: the turn's thread, rules and record keeper.
            first: the input that the turn begins with; None for one that was begun already.
            load_images: reads local images of an input into data URLs.
            load_skill: reads a skill.
            output_schema: JSON schema that the final message must follow.
            calls: the model's calls that such a turn was left with.
        """
        thread, state, report = parts.thread, parts.state, parts.report
        self._thread = thread
        self._state = state
        self._report = report
        self._load_images = load_images
        self._load_skill = load_skill
        self._first = first
        self._calls = tuple(calls)
        self._output_schema = output_schema
        self._conversation = Conversation(thread, state, report, parts.tools, output_schema)
        self._compactor = Compactor(thread, state.turn_id, report)
        self._compacts_first = False
        self._may_compact = False
        """Whether anything came of the turn since it began, or since its last compaction."""

    def cut_short(self) -> None:
        """Input has joined the turn: leave the answer in flight."""
        self._conversation.cut_short()

    # ------------------------------------------------------------------ beginning

    def prepare(self) -> None:
        """Tell the model what it does not know yet, unless all is about to be told anew."""
        self._compacts_first = self._thread.is_full
        if not self._compacts_first:
            tell_surroundings(self._thread, self._report, self._state.turn_id)
        if self._output_schema is not None:
            self._report.record(schema_record(self._output_schema, self._thread.clock.now()))

    def open(self) -> None:
        """Take the input, unless the context is compacted first."""
        if not self._compacts_first:
            self._take_first()

    def _take_first(self) -> None:
        first, self._first = self._first, None
        if first is not None and first.content:
            self._take_input(first)

    def _take_input(self, steer: Steer) -> None:
        item = UserMessage(
            id=steer.item_id or new_id(), client_id=steer.client_id, content=steer.content
        )
        self._report.keep(prompt.user_item(steer.content, self._load_images(steer.content)))
        self._report.started(item)
        self._report.completed(item)
        for skill in named_skills(steer.content, self._thread.skills):
            self._report.keep(prompt.skill_item(skill, self._load_skill(skill.path)))

    # ------------------------------------------------------------------ the conversation

    async def carry_out(self) -> None:
        """Converse until the turn is over."""
        await self._thread.tools.ready()
        if self._compacts_first:
            await self._compactor.compact(automatic=True)
            tell_surroundings(self._thread, self._report, self._state.turn_id)
            self._take_first()
            self._take_waiting()
        following = await (self._go_on() if self._calls else self._exchange())
        while following == "sample":
            if self._thread.is_full:
                await self._compactor.compact(automatic=True)
            self._take_waiting()
            await self._thread.log.flush()
            following = await self._exchange()

    async def take_over(self) -> None:
        """Converse about the input that joined a turn which began with something else."""
        self.prepare()
        self.open()
        if not self._compacts_first:
            self._take_waiting()
        await self.carry_out()

    def _take_waiting(self) -> None:
        for note in self._state.take_notes():
            self._report.keep(note)
        for steer in self._state.take_steers():
            self._take_input(steer)

    async def _go_on(self) -> str:
        """Carry out what the turn was left with; what follows."""
        await self._conversation.carry_out(self._calls)
        self._may_compact = True
        return self._next(None)

    async def _exchange(self) -> str:
        """One exchange; `sample` when another follows, `end` when the turn is over."""
        try:
            completed = await self._conversation.exchange()
        except ModelError as error:
            if error.info != OVERFLOW:
                raise
            self._thread.overflowed()
            if not self._may_compact:
                # Nothing is lost yet: the user is told, and the next turn compacts first (as both
                # references do). Past the first answer the work done so far is worth more.
                self._report.measured(self._thread.context_tokens)
                raise
            self._may_compact = False
            await self._conversation.drop_answer()
            return "sample"
        self._may_compact = True
        return self._next(completed)

    def _next(self, completed: ResponseCompleted | None) -> str:
        end_turn = completed.end_turn if completed else None
        return self._state.response_ended(end_turn=end_turn)

    # ------------------------------------------------------------------ an early end

    async def stop(self, why: Stop) -> None:
        """Keep what was said, the user's words above all; stop tools and close their calls."""
        if self._first is not None:
            tell_surroundings(self._thread, self._report, self._state.turn_id)
            self._take_first()
        if why == "failed":
            await self._conversation.stop("aborted: the turn failed")
            self._take_waiting()
            return
        elapsed = self._thread.clock.now() - self._state.started_at_ms / 1000
        await self._conversation.stop(f"Wall time: {elapsed:.1f} seconds\naborted by user")
        self._take_waiting()
        self._report.keep(prompt.message("user", prompt.TURN_ABORTED))


def tell_surroundings(thread: AgentThread, report: TurnReport, turn_id: str) -> None:
    """Tell the model what it does not know yet of settings and surroundings."""
    told = thread.told
    if told is None:
        notes = prompt.opening(thread.settings, thread.surroundings, thread.skills)
    else:
        notes = prompt.changes(told, thread.settings, thread.surroundings)
    for note in notes:
        report.keep(note)
    report.record(TurnContext(turn_id=turn_id, settings=thread.settings))
    if told != thread.settings:
        report.record(SettingsApplied(settings=thread.settings))
        thread.told = thread.settings
