from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.domain.items import TextInput
from treadle.domain.turns import TurnError
from treadle.engine.agent.turn_state import Steer, TurnOver, TurnState

CALL_IDS = st.sampled_from(["a", "b", "c"])
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("steer")),
        st.tuples(st.just("take")),
        st.tuples(st.just("respond")),
        st.tuples(st.just("call"), CALL_IDS),
        st.tuples(st.just("answer"), CALL_IDS),
        st.tuples(st.just("end"), st.sampled_from(["completed", "interrupted", "failed"])),
    ),
    max_size=40,
)


def make() -> TurnState:
    return TurnState("turn-1", 0)


def steer(text: str = "more") -> Steer:
    return Steer([TextInput(text=text)])


@given(DEEDS)
def test_whatever_happens_a_turn_ends_once_and_takes_nothing_after(deeds: list[Any]):
    state = make()
    endings: list[str] = []
    given_in = taken_out = 0
    for what, *details in deeds:
        match what:
            case "steer":
                if state.over:
                    with pytest.raises(TurnOver):
                        state.steer(steer())
                else:
                    state.steer(steer())
                    given_in += 1
            case "take":
                taken_out += len(state.take_steers())
            case "respond":
                state.response_started()
                assert not state.answered
            case "call":
                state.call_made(details[0], custom=False)
                assert state.response_ended(end_turn=None) == "sample"
            case "answer":
                state.call_answered(details[0])
                assert details[0] not in state.open_calls
            case _:
                if state.end(details[0]):
                    endings.append(details[0])
    assert len(endings) == min(1, sum(deed[0] == "end" for deed in deeds))
    assert state.status == (endings[0] if endings else "inProgress")
    assert taken_out + len(state.steers) == given_in


def test_the_first_ending_keeps_its_error():
    state, error = make(), TurnError(message="no", codex_error_info=None, additional_details=None)
    assert state.end("failed", error)
    assert not state.end("completed")
    assert (state.status, state.error) == ("failed", error)


def test_an_answer_without_calls_ends_the_turn():
    state = make()
    state.response_started()
    assert state.response_ended(end_turn=None) == "end"
    assert state.response_ended(end_turn=True) == "end"


def test_calls_waiting_input_and_the_providers_word_go_on():
    state = make()
    state.response_started()
    assert state.response_ended(end_turn=False) == "sample"
    state.call_made("a", custom=False)
    state.call_answered("a")
    assert state.response_ended(end_turn=None) == "sample"
    state.response_started()
    assert state.response_ended(end_turn=None) == "end"
    state.steer(steer())
    assert state.response_ended(end_turn=True) == "sample"


def test_input_is_taken_in_order_and_once():
    state = make()
    state.steer(steer("one"))
    state.steer(steer("two"))
    texts = [getattr(part.content[0], "text", None) for part in state.take_steers()]
    assert texts == ["one", "two"]
    assert state.take_steers() == []


def test_an_item_id_is_given_out_once_in_a_turn():
    state = make()
    assert state.unique_item_id("msg-1", "f1") == "msg-1"
    assert state.unique_item_id("msg-1", "f2") == "f2"
    assert state.unique_item_id(None, "f3") == "f3"
    assert state.unique_item_id("", "f4") == "f4"
