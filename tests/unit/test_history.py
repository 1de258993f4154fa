"""What records add up to."""

import time
from typing import Any

from treadle.domain import history
from treadle.domain.items import AgentMessage, ImageInput, TextInput, UserMessage
from treadle.domain.records import (
    ContextReplaced,
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadRecord,
    TurnContext,
    TurnEnded,
    TurnStarted,
)
from treadle.domain.turns import TurnError
from treadle.testing.thread_store import a_thread, a_turn, settings


def said(turn_id: str, text: str, item_id: str = "m", start: int | None = None) -> ItemDone:
    item = AgentMessage(id=item_id, text=text)
    return ItemDone(turn_id=turn_id, item=item, started_at_ms=start)


def started(turn_id: str) -> TurnStarted:
    return TurnStarted(turn_id=turn_id, started_at=7)


def texts(records: list[ThreadRecord]) -> list[list[tuple[str, str]]]:
    turns = history.turns(records)
    return [[(item.id, getattr(item, "text", "")) for item in turn.items] for turn in turns]


def test_turns_hold_their_items_in_order_and_their_times() -> None:
    [turn] = history.turns([a_thread(), *a_turn("hi", answer="hello")])
    assert [item.__struct_config__.tag for item in turn.items] == ["userMessage", "agentMessage"]
    assert (turn.status, turn.items_view, turn.duration_ms) == ("completed", "full", 7)
    assert turn.started_at == turn.completed_at == 1_735_787_045


def test_a_turn_without_an_end_was_interrupted_unless_it_runs() -> None:
    records: list[ThreadRecord] = [started("a"), said("a", "x"), started("b")]
    assert [turn.status for turn in history.turns(records)] == ["interrupted"] * 2
    assert [turn.status for turn in history.turns(records, "b")] == ["interrupted", "inProgress"]


def test_a_failed_turn_keeps_its_error_and_items() -> None:
    error = TurnError(message="no such thing", codex_error_info="badRequest")
    ended = TurnEnded(turn_id="a", status="failed", error=error)
    [turn] = history.turns([started("a"), said("a", "kept"), ended])
    assert (turn.status, turn.error, len(turn.items)) == ("failed", error, 1)


def test_a_reused_item_id_overwrites_nothing() -> None:
    records: list[ThreadRecord] = [started("a"), said("a", "1"), said("a", "2"), said("a", "3")]
    assert texts(records) == [[("m", "1"), ("m-2", "2"), ("m-3", "3")]]


def test_the_same_item_told_again_is_replaced() -> None:
    records: list[ThreadRecord] = [
        started("a"),
        said("a", "half", start=5),
        said("a", "other", "n"),
        said("a", "whole", start=5),
    ]
    assert texts(records) == [[("m", "whole"), ("n", "other")]]


def test_items_of_other_programs_keep_their_place() -> None:
    raw: Any = {"type": "imageGeneration", "id": "g"}
    [turn] = history.turns([started("a"), ItemDone(turn_id="a", item=raw), said("a", "x")])
    assert turn.items[0] == raw


def test_an_interrupted_turn_may_end_after_the_next_began() -> None:
    late = TurnEnded(turn_id="a", status="interrupted", reason="replaced")
    turns = history.turns([started("a"), started("b"), late, said("b", "x")])
    assert [(turn.id, turn.status, len(turn.items)) for turn in turns] == [
        ("a", "interrupted", 0),
        ("b", "interrupted", 1),
    ]


def test_compaction_replaces_what_the_model_knows_and_not_what_people_see() -> None:
    summary = {"type": "message", "role": "user", "content": []}
    later = {"type": "message", "role": "user", "content": [1]}
    records: list[ThreadRecord] = [*a_turn("one"), ContextReplaced(message="s", items=[summary])]
    records.append(ModelItem(item=later))
    past = history.LogFold(records)
    assert history.model_context(records) == past.context()() == [summary, later]
    assert past.compactions == 1
    assert len(history.turns(records)[0].items) == 2


def test_reading_the_context_leaves_the_records_alone() -> None:
    replaced = ContextReplaced(message="s", items=[])
    records: list[ThreadRecord] = [replaced, ModelItem(item={"type": "message"})]
    assert history.model_context(records) == history.model_context(records)
    assert replaced.items == []


def test_the_latest_settings_and_usage_win() -> None:
    import msgspec

    newer = msgspec.structs.replace(settings(), model="newer")
    records: list[ThreadRecord] = [SettingsApplied(settings=settings()), *a_turn("x")]
    past = history.LogFold(records)
    assert past.settings == settings()
    past.add([TurnContext(turn_id="t", settings=newer)])
    assert past.settings == past.told == newer
    assert past.usage is not None
    assert past.usage.usage is not None
    assert past.usage.usage.total.total_tokens == 15
    assert history.LogFold([]).settings is history.LogFold([]).usage is None


def test_the_preview_is_the_first_message_that_says_something() -> None:
    def asked(*parts: Any) -> ItemDone:
        return ItemDone(turn_id="t", item=UserMessage(id="u", content=list(parts)))

    assert history.preview([said("t", "no user"), asked(TextInput(text="  padded \n"))]) == "padded"
    assert history.preview([asked(), asked(TextInput(text="second"))]) == "second"
    assert history.preview([asked(ImageInput(url="data:"))]) == "[Image]"
    marked = "# Context\n\n## My request for Codex:\nfix it"
    assert history.preview([asked(TextInput(text=marked))]) == "fix it"
    assert history.preview([said("t", "only the assistant")]) == ""


def test_twenty_thousand_records_fold_quickly() -> None:
    records = [record for k in range(2500) for record in a_turn(f"q{k}")]
    began = time.process_time()
    assert len(history.turns(records)) == 2500
    assert time.process_time() - began < 0.5, "about 30 ms when the machine is idle"
