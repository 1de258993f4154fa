import asyncio
from typing import Any, cast

import pytest

from treadle.domain.events import ItemCompleted, ItemStarted, ModelRerouted, TextDelta, ThreadEvent
from treadle.domain.policy import DangerFullAccess, Settings
from treadle.domain.records import ModelItem, ThreadRecord
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.prompt import Surroundings
from treadle.engine.agent.response_reader import ResponseReader
from treadle.engine.agent.tool_runs import ToolRuns
from treadle.engine.agent.turn_report import TurnReport
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.model.model_client import (
    ModelEvent,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningTextDelta,
    ResponseCompleted,
    ResponseStarted,
)
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput
from treadle.kit.clock import ManualClock

DONE = ResponseCompleted("r", None)


class Bench:
    """A reader whose announcements, records and tool calls can be looked at. Is its own ports."""

    def __init__(self) -> None:
        self.events: list[ThreadEvent] = []
        self.records: list[ThreadRecord] = []
        self.ran: list[ToolCall] = []
        anything = cast("Any", self)
        settings = Settings(
            model="m",
            model_provider="p",
            cwd="/w",
            approval_policy="never",
            sandbox=DangerFullAccess(),
        )
        self.thread = AgentThread(
            thread_id="t",
            session_id="t",
            originator="o",
            user_agent="u",
            settings=settings,
            base_instructions="",
            surroundings=Surroundings(shell="sh", date="d", timezone="z"),
            log=anything,
            announcer=anything,
            model=anything,
            tools=anything,
            sandbox=anything,
            env={},
            clock=ManualClock(),
        )
        self.state = TurnState("turn", 0)
        report = TurnReport(self.thread, "turn", anything)
        context = ToolContext(
            thread_id="t",
            turn_id="turn",
            settings=settings,
            sandbox=anything,
            env={},
            clock=self.thread.clock,
            reporter=report,
            journal=anything,
        )
        self.runs = ToolRuns(anything, context)
        self.reader = ResponseReader(self.thread, self.state, self.runs, report)

    # The ports.

    def publish(self, event: ThreadEvent) -> None:
        self.events.append(event)

    def append(self, records: list[ThreadRecord]) -> None:
        self.records += records

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        del context
        self.ran.append(call)
        return ToolOutput(text="ok")

    # What tests look at.

    def read(self, *events: ModelEvent) -> None:
        self.reader.read(list(events))

    def items(self, kind: type[ItemStarted] | type[ItemCompleted]) -> list[Any]:
        return [event.item for event in self.events if isinstance(event, kind)]

    @property
    def kept(self) -> list[dict[str, Any]]:
        return [record.content for record in self.records if isinstance(record, ModelItem)]


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def message(text: str, item_id: str | None = "msg_1") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "id": item_id, "content": content}


def call(call_id: str = "c") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "tool", "arguments": "{}"}


async def test_a_message_streams_and_completes_under_one_id(bench: Bench):
    bench.read(
        OutputItemAdded(message("")),
        OutputTextDelta("Hi", "msg_1"),
        OutputItemDone(message("Hi")),
        DONE,
    )
    (begun,), (ended,) = bench.items(ItemStarted), bench.items(ItemCompleted)
    assert begun.id == ended.id == "msg_1"
    assert (begun.text, ended.text) == ("", "Hi")
    assert bench.kept == [message("Hi")]


async def test_a_message_that_was_never_begun_still_starts_before_it_completes(bench: Bench):
    bench.read(OutputItemDone(message("Hi")), DONE)
    assert [type(event) for event in bench.events] == [ItemStarted, ItemCompleted]


@pytest.mark.parametrize("begun", [True, False])
async def test_providers_without_item_ids_are_understood(bench: Bench, begun: bool):
    if begun:
        bench.read(OutputItemAdded(message("", None)))
    bench.read(OutputTextDelta("Hi", None), OutputTextDelta(" you", None))
    bench.read(OutputItemDone(message("Hi you", None)), DONE)
    (item,) = bench.items(ItemCompleted)
    assert item.text == "Hi you"
    deltas = [event for event in bench.events if isinstance(event, TextDelta)]
    assert {delta.item_id for delta in deltas} == {item.id}
    assert len(bench.items(ItemStarted)) == 1


async def test_reasoning_and_text_without_ids_are_items_of_their_own(bench: Bench):
    bench.read(
        ReasoningTextDelta("hm", None, 0),
        OutputTextDelta("Hi", None),
        OutputItemDone({"type": "reasoning", "content": [{"text": "hm"}]}),
        OutputItemDone(message("Hi", None)),
        DONE,
    )
    reasoning, text = bench.items(ItemStarted)
    assert [type(item).__name__ for item in (reasoning, text)] == ["Reasoning", "AgentMessage"]
    assert [item.id for item in bench.items(ItemCompleted)] == [reasoning.id, text.id]
    assert reasoning.id != text.id


async def test_an_id_that_comes_again_gets_a_fresh_one(bench: Bench):
    bench.read(OutputItemDone(message("one")), OutputItemDone(message("two")), DONE)
    first, second = bench.items(ItemCompleted)
    assert first.id == "msg_1"
    assert second.id not in ("", "msg_1")


async def test_a_voided_attempt_leaves_nothing_in_the_context(bench: Bench):
    bench.read(OutputItemDone(message("lost")), OutputTextDelta("half", "msg_2"))
    bench.reader.void()
    assert bench.kept == []
    bench.read(OutputItemDone(message("kept", "msg_3")), DONE)
    assert bench.kept == [message("kept", "msg_3")]


async def test_a_call_starts_its_tool_at_once_and_makes_what_came_before_it_count(bench: Bench):
    bench.read(OutputItemDone(message("first")), OutputItemDone(call()))
    assert bench.reader.called
    assert bench.state.open_calls == {"c": False}
    assert bench.kept == [message("first"), call()]
    async with asyncio.timeout(2):
        while not bench.ran:
            await asyncio.sleep(0)
    assert [ran.call_id for ran in bench.ran] == ["c"]
    await bench.runs.stop(lambda _call, _item: None, "over")


async def test_an_abandoned_message_is_kept_for_the_model_and_completes_for_nobody(bench: Bench):
    bench.read(OutputItemAdded(message("")), OutputTextDelta("half", "msg_1"))
    bench.reader.abandon()
    bench.reader.abandon()
    assert bench.items(ItemCompleted) == []
    assert [item["content"][0]["text"] for item in bench.kept] == ["half"]


async def test_a_message_left_by_choice_completes_as_it_stands(bench: Bench):
    bench.read(OutputItemAdded(message("")), OutputTextDelta("half", "msg_1"))
    bench.reader.leave()
    (item,) = bench.items(ItemCompleted)
    assert (item.id, item.text) == ("msg_1", "half")
    assert [item["content"][0]["text"] for item in bench.kept] == ["half"]


async def test_another_model_than_the_asked_one_is_told(bench: Bench):
    bench.read(ResponseStarted("r", "m"), ResponseStarted("r"), ResponseStarted("r", "n"))
    (event,) = bench.events
    assert isinstance(event, ModelRerouted)
    assert (event.from_model, event.to_model) == ("m", "n")
