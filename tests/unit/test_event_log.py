"""Events counted from a log: numbers that a log keeps for ever."""

from treadle.domain.event_log import STRIDE, count_events, count_record, recorded_events
from treadle.domain.events import ItemCompleted, TurnBegan, TurnFinished, UsageUpdated
from treadle.domain.history import drop_turns
from treadle.domain.records import Foreign, UsageRecorded
from treadle.testing.thread_store import a_thread, a_turn


def test_each_kept_event_has_the_next_round_number():
    records = [a_thread(), *a_turn("one")]
    told = list(recorded_events("t", records))
    assert [t.seq for t in told] == [n * STRIDE for n in range(1, 6)]
    kinds = [TurnBegan, ItemCompleted, ItemCompleted, UsageUpdated, TurnFinished]
    assert [type(t.event) for t in told] == kinds
    last = told[-1].event
    assert isinstance(last, TurnFinished)
    assert [item.text for item in last.turn.items] == ["Done"]
    assert count_events(records) == 5


def test_more_of_a_log_changes_no_earlier_number():
    records = [a_thread(), *a_turn("one"), *a_turn("two")]
    whole = list(recorded_events("t", records))
    for end in range(len(records)):
        part = list(recorded_events("t", records[:end]))
        assert part == whole[: len(part)]


def test_the_count_goes_on_behind_turns_that_were_taken_back():
    records = [a_thread(), *a_turn("one"), *a_turn("two")]
    count = count_events(records)
    left = [*drop_turns(records, 1), count_record(count, 1.0), *a_turn("three")]
    numbers = [told.seq // STRIDE for told in recorded_events("t", left)]
    assert numbers == [*range(1, 6), *range(count + 1, count + 6)]
    assert count_events(left) == count + 5


def test_lines_that_say_nothing_of_events_do_not_count():
    odd = [Foreign(type="treadle_event_count", payload=p) for p in (None, {}, {"count": "x"})]
    unknown = UsageRecorded(turn_id=None, usage=None)
    assert count_events([a_thread(), *odd, Foreign(type="x"), unknown]) == 0
