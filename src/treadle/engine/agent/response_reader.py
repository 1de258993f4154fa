"""Reads one response of the model: events in, items announced and recorded, tools started.

Owns the streaming items of a response, and what becomes of them when it is left before its end.
"""

from typing import Any

from treadle.domain.events import (
    ModelRerouted,
    RateLimitsUpdated,
    ReasoningPartAdded,
    TextDelta,
)
from treadle.domain.items import AgentMessage, Reasoning, ThreadItem, WebSearch
from treadle.engine.agent import model_items
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.tool_runs import ToolRuns, tool_call
from treadle.engine.agent.turn_report import TurnReport
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.model.model_client import (
    ModelEvent,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    RateLimits,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ReasoningTextDelta,
    ResponseCompleted,
    ResponseStarted,
)
from treadle.engine.tools.generated_images import save_image
from treadle.kit.mint import new_id

_NAMELESS = "?"
_SUMMARY = "item/reasoning/summaryTextDelta"
_RAW = "item/reasoning/textDelta"


def _key(item_id: str | None, kind: str | None) -> str:
    """What an open item is known by: its id, or its kind where the provider sends no ids."""
    return str(item_id) if item_id else f"{_NAMELESS}{kind}"


class ResponseReader:
    """One response, from its first event to its completion."""

    def __init__(
        self,
        thread: AgentThread,
        state: TurnState,
        runs: ToolRuns,
        report: TurnReport,
    ) -> None:
        self._thread = thread
        self._state = state
        self._runs = runs
        self._report = report
        self._open: dict[str, ThreadItem] = {}
        """Streaming items by `_key`."""
        self._texts: dict[str, list[str]] = {}
        self._message_key: str | None = None
        self._held: list[dict[str, Any]] = []
        """Messages and reasoning of this attempt, kept once it cannot be voided any more."""
        self.completed: ResponseCompleted | None = None

    @property
    def called(self) -> bool:
        """Whether this response made a tool call: then it is never simply tried again."""
        return len(self._runs) > 0

    def read(self, events: list[ModelEvent]) -> None:
        """Take a batch."""
        for event in events:
            if type(event) is OutputTextDelta:
                self._text(event)
            else:
                self._other(event)

    def _text(self, event: OutputTextDelta) -> None:
        key = event.item_id or self._message_key or _key(None, "message")
        item = self._open.get(key)
        if item is None:
            item = self._begin_message(key, None)
        self._texts[key].append(event.delta)
        self._delta(item.id, event.delta, "item/agentMessage/delta", None)

    def _other(self, event: ModelEvent) -> None:
        match event:
            case OutputItemAdded(item=item):
                self._added(item)
            case OutputItemDone(item=item):
                self._done(item)
            case ReasoningSummaryPartAdded(item_id=key, summary_index=index):
                self._thread.announcer.publish(
                    ReasoningPartAdded(
                        thread_id=self._thread.thread_id,
                        turn_id=self._state.turn_id,
                        item_id=self._reasoning(key).id,
                        summary_index=index,
                    )
                )
            case ReasoningSummaryDelta(delta=delta, item_id=key, summary_index=index):
                self._delta(self._reasoning(key).id, delta, _SUMMARY, index)
            case ReasoningTextDelta(delta=delta, item_id=key, content_index=index):
                self._delta(self._reasoning(key).id, delta, _RAW, index)
            case RateLimits(limits=limits):
                self._thread.announcer.publish(
                    RateLimitsUpdated(thread_id=self._thread.thread_id, rate_limits=limits)
                )
            case ResponseStarted(model=model):
                self._started(model)
            case ResponseCompleted():
                self.completed = event
                self._settle()
            case _:
                return

    def _started(self, model: str | None) -> None:
        asked = self._thread.settings.model
        if model is not None and model != asked:
            self._thread.announcer.publish(
                ModelRerouted(
                    thread_id=self._thread.thread_id,
                    turn_id=self._state.turn_id,
                    from_model=asked,
                    to_model=model,
                    reason="highRiskCyberActivity",
                )
            )

    def _added(self, item: dict[str, Any]) -> None:
        key = _key(item.get("id"), item.get("type"))
        match item.get("type"):
            case "message":
                self._begin_message(key, item.get("phase"))
            case "reasoning":
                self._reasoning(key)
            case "web_search_call":
                self._begin(key, model_items.web_search({}, self._item_id(key)))
            case _:
                return

    def _done(self, item: dict[str, Any]) -> None:
        key = _key(item.get("id"), item.get("type"))
        match item.get("type"):
            case "message":
                self._message_done(key, item)
            case "reasoning":
                begun = self._reasoning(key)
                self._open.pop(key, None)
                self._report.completed(model_items.reasoning(item, begun.id))
                self._held.append(model_items.replayable(item))
            case "image_generation_call":
                self._image_done(key, item)
            case "web_search_call":
                begun = self._open.pop(key, None)
                item_id = begun.id if isinstance(begun, WebSearch) else self._item_id(key)
                if begun is None:
                    self._report.started(model_items.web_search({}, item_id))
                self._report.completed(model_items.web_search(item, item_id))
                self._held.append(model_items.replayable(item))
            case _:
                self._call_done(item)

    def _image_done(self, key: str, item: dict[str, Any]) -> None:
        thread, item_id = self._thread, self._item_id(key)
        data = str(item.get("result") or "")
        path = save_image(thread.home, thread.thread_id, item_id, data) if data else None
        image = model_items.generated_image(item, item_id, path)
        self._report.started(image)
        self._report.completed(image)
        self._held.append(model_items.replayable(item))

    def _call_done(self, item: dict[str, Any]) -> None:
        self._held.append(model_items.replayable(item))
        call = tool_call(item)
        if call is not None:
            # From here on the response counts: its call has effects, so nothing of it is voided.
            self._settle()
            self._state.call_made(call.call_id, custom=call.custom)
            self._runs.start(call)

    def _message_done(self, key: str, item: dict[str, Any]) -> None:
        if key not in self._open:
            self._begin_message(key, item.get("phase"))
        begun = self._open.pop(key)
        self._texts.pop(key, None)
        self._message_key = None
        text = model_items.message_text(item)
        self._report.completed(AgentMessage(id=begun.id, text=text, phase=item.get("phase")))
        self._held.append(model_items.replayable(item))

    def _begin_message(self, key: str, phase: str | None) -> ThreadItem:
        self._message_key = key
        self._texts[key] = []
        return self._begin(key, AgentMessage(id=self._item_id(key), text="", phase=phase))

    def _reasoning(self, item_id: str | None) -> ThreadItem:
        key = _key(item_id, "reasoning")
        known = self._open.get(key)
        if known is None:
            known = self._begin(key, Reasoning(id=self._item_id(key)))
        return known

    def _begin(self, key: str, item: ThreadItem) -> ThreadItem:
        self._open[key] = item
        self._report.started(item)
        return item

    def _item_id(self, key: str) -> str:
        wanted = None if key.startswith(_NAMELESS) else key
        return self._state.unique_item_id(wanted, f"msg_{new_id()}")

    def _delta(self, item_id: str, delta: str, channel: str, index: int | None) -> None:
        self._thread.announcer.publish(
            TextDelta(
                thread_id=self._thread.thread_id,
                turn_id=self._state.turn_id,
                item_id=item_id,
                delta=delta,
                channel=channel,
                index=index,
            )
        )

    def _settle(self) -> None:
        """What was held becomes part of the context."""
        for item in self._held:
            self._report.keep(item)
        self._held.clear()

    def void(self) -> None:
        """The attempt failed and will be tried again: forget what it said."""
        self._forget_open()
        self._held.clear()

    def leave(self) -> None:
        """The response is left by choice: what streams is completed as it stands."""
        self._keep_partial()
        for key, begun in self._open.items():
            item = begun
            if isinstance(begun, AgentMessage):
                text = "".join(self._texts.get(key, ()))
                item = AgentMessage(id=begun.id, text=text, phase=begun.phase)
            self._report.completed(item)
        self._forget_open()

    def abandon(self) -> None:
        """The turn ends here: the model keeps what was said, half a message is kept as such.

        What was streaming is never completed, as the references have it (0.129.0, 0.169.0).
        """
        self._keep_partial()
        for key, begun in self._open.items():
            if isinstance(begun, AgentMessage) and (parts := self._texts.get(key)):
                self._report.cut_off(begun, "".join(parts))
        self._forget_open()

    def _keep_partial(self) -> None:
        self._settle()
        for key, parts in self._texts.items():
            if parts and key in self._open:
                content = [{"type": "output_text", "text": "".join(parts)}]
                item = {"type": "message", "role": "assistant", "content": content}
                self._report.keep(item)

    def _forget_open(self) -> None:
        self._open.clear()
        self._texts.clear()
        self._message_key = None
