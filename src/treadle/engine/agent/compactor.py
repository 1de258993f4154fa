"""Compacts a thread's context: asks for a summary, validates what came, and only then replaces.

A transaction: whatever fails before the end, and an interrupt too, leaves the context as it was.
What is kept and what counts as a gain is decided in `compaction`.
"""

from contextlib import aclosing
from typing import Any

from treadle.domain.events import RateLimitsUpdated
from treadle.domain.failures import FailureKind
from treadle.domain.items import ContextCompaction
from treadle.domain.turns import TurnError
from treadle.engine.agent import compaction, model_items, prompt
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.model_requests import summary_request
from treadle.engine.agent.turn_report import TurnReport
from treadle.engine.model.model_client import (
    ModelError,
    ModelEvent,
    OutputItemDone,
    RateLimits,
    ResponseCompleted,
    Retrying,
)
from treadle.kit.mint import new_id

OVERFLOW = "contextWindowExceeded"
"""`codexErrorInfo` of a context that does not fit the model's window."""

_CUT_BUDGET_TOKENS = 60_000
_DEFAULT_WINDOW_TOKENS = 128_000

_NO_GAIN = (
    "The context could not be made smaller. Start a new thread, or shorten the instructions that "
    "every request begins with."
)
_IN_VAIN = (
    "The conversation could not be summarised to make room; it goes on as it is. Compact it by "
    "hand, or start a new thread, when the model refuses it."
)
_CUT_WARNING = (
    "The conversation could not be summarised to make room, so its older part was left out. "
    "Start a new thread if the agent lost what it needs."
)


class Compactor:
    """Compacts the context of one thread within one turn."""

    def __init__(self, thread: AgentThread, turn_id: str, report: TurnReport) -> None:
        self._thread = thread
        self._turn_id = turn_id
        self._report = report
        self._in_vain = False
        """Whether an automatic compaction of this turn came to nothing."""

    async def compact(self, *, automatic: bool = False) -> None:
        """Replace the context by a smaller one, and show it as an item.

        An `automatic` compaction that comes to nothing warns and lets the turn go on with the
        context as it is, and is not tried again in this turn: the limit may be the user's own, and
        the model may take the context all the same. Only once the provider has said that it does
        not fit is the older part cut off without a summary.

        Raises:
            ModelError: the model failed, or nothing smaller could be made; the context is as it
                was and the item stays open, since nothing was compacted.
            StoreError: the log did not take it.
        """
        thread, report = self._thread, self._report
        if automatic and self._in_vain and not thread.overflow:
            return
        item = ContextCompaction(id=new_id())
        report.started(item)
        history = thread.context
        opening = prompt.opening(thread.settings, thread.surroundings, thread.skills)
        summary, failure = await self._try_summary(history)
        replacement = None if summary is None else compaction.summarised(opening, history, summary)
        if failure is not None and (not automatic or _out_of_budget(failure)):
            raise failure
        if replacement is None and thread.overflow:
            replacement = self._cut(opening, history)
        if replacement is None:
            if not automatic:
                raise _no_gain()
            self._in_vain = True
            report.warned(_IN_VAIN if failure else _NO_GAIN)
            return
        report.replace_context(replacement, summary or "")
        report.measured(compaction.estimate_tokens(replacement))
        report.completed(item)
        await thread.log.flush()

    def _cut(
        self, opening: list[dict[str, Any]], history: list[dict[str, Any]]
    ) -> list[dict[str, Any]] | None:
        window = self._thread.traits.context_window or _DEFAULT_WINDOW_TOKENS
        replacement = compaction.cut(opening, history, min(window // 2, _CUT_BUDGET_TOKENS))
        if replacement is not None:
            self._report.warned(_CUT_WARNING)
        return replacement

    async def _try_summary(
        self, history: list[dict[str, Any]]
    ) -> tuple[str | None, ModelError | None]:
        """The model's summary, or why there is none."""
        try:
            return await self._summary(history), None
        except ModelError as error:
            return None, error

    async def _summary(self, history: list[dict[str, Any]]) -> str | None:
        """The model's summary; None when even the smallest part of the history does not fit."""
        question = self._thread.traits.compact_prompt or compaction.SUMMARY_PROMPT
        for part in compaction.attempts(history):
            try:
                summary = await self._ask(part, question)
            except ModelError as error:
                if error.info != OVERFLOW:
                    raise
                continue
            if not summary.strip():
                raise _no_summary()
            return summary
        self._thread.overflow = True
        return None

    async def _ask(self, history: list[dict[str, Any]], question: str) -> str:
        request = summary_request(self._thread, self._turn_id, history, question)
        texts: list[str] = []
        async with aclosing(self._thread.model.stream(request)) as stream:
            async for events in stream:
                for event in events:
                    self._read(event, texts)
        return "".join(texts)

    def _read(self, event: ModelEvent, texts: list[str]) -> None:
        match event:
            case OutputItemDone(item=item) if item.get("type") == "message":
                texts.append(model_items.message_text(item))
            case Retrying(message=message, info=info, details=details):
                texts.clear()
                self._report.failed(
                    TurnError(message=message, codex_error_info=info, additional_details=details),
                    will_retry=True,
                )
            case RateLimits(limits=limits):
                self._thread.announcer.publish(
                    RateLimitsUpdated(thread_id=self._thread.thread_id, rate_limits=limits)
                )
            case ResponseCompleted(usage=usage) if usage is not None:
                self._report.used(usage)
            case _:
                return


def _out_of_budget(failure: ModelError) -> bool:
    """Whether the turn can go no further either."""
    return failure.kind is FailureKind.BUDGET_EXHAUSTED


def _no_summary() -> ModelError:
    return ModelError(
        "The model answered without a summary; the context is as it was. Try again, or start a "
        "new thread."
    )


def _no_gain() -> ModelError:
    return ModelError(
        _NO_GAIN,
        info=OVERFLOW,
        kind=FailureKind.PROVIDER_CONTEXT_EXCEEDED,
    )
