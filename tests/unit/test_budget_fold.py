"""How a log counts what was spent, and when a limit is reached."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from treadle.domain.budgets import (
    NO_LIMITS,
    Budget,
    BudgetChange,
    BudgetFold,
    Spending,
    exhausted,
    limits_record,
    spend_record,
)
from treadle.domain.records import Foreign

AMOUNTS = st.dictionaries(
    st.sampled_from(Spending.__struct_fields__), st.integers(-50, 5_000), max_size=3
)


@given(st.lists(AMOUNTS), st.integers(0, 20))
def test_a_restated_log_says_the_same(spends: list[dict[str, int]], cut: int):
    whole, restated = BudgetFold(), BudgetFold()
    records = [limits_record({"tokens": 5}, 0.0), *(spend_record(1.0, **each) for each in spends)]
    head = BudgetFold()
    for record in records[:cut]:
        head.add(record)
    restated.add(head.restated(2.0))
    for record in records[cut:]:
        restated.add(record)
    for record in records:
        whole.add(record)
    assert restated.spent == whole.spent
    assert restated.limits(NO_LIMITS) == whole.limits(NO_LIMITS)


def test_what_clients_set_wins_over_the_configuration():
    fold = BudgetFold()
    configured = Budget(tokens=100, children=2)
    assert fold.limits(configured) is configured
    change = msgspec.convert({"tokens": None, "toolCalls": 7}, BudgetChange)
    fold.add(limits_record(change.values(), 0.0))
    assert fold.limits(configured) == Budget(tokens=None, tool_calls=7, children=2)


def test_lines_of_others_are_passed_over():
    fold = BudgetFold()
    fold.add(Foreign(type="treadle_budget", payload={"spend": {"odd": 3}, "limits": {"odd": 1}}))
    fold.add(Foreign(type="other", payload={"spend": {"tokens": 3}}))
    assert fold.spent == Spending()
    assert fold.limits(NO_LIMITS) == NO_LIMITS


def test_a_limit_is_reached_when_there_is_no_room_for_one_more():
    limits = Budget(model_calls=2, wall_clock_seconds=3)
    assert exhausted(limits, Spending(model_calls=1), "model_calls") is None
    reached = exhausted(limits, Spending(model_calls=2), "tokens", "model_calls")
    assert reached is not None
    assert (reached.dimension, reached.text) == (
        "modelCalls",
        "the budget of 2 model calls is used up",
    )
    assert exhausted(limits, Spending(wall_clock_ms=2_999), "wall_clock_seconds") is None
    assert exhausted(limits, Spending(wall_clock_ms=3_000), "wall_clock_seconds") is not None
    assert exhausted(Budget(children=0), Spending(), "children") is not None
