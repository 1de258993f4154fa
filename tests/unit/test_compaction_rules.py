from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from treadle.engine.agent import compaction, prompt

OPENING = [prompt.message("developer", "rules"), prompt.message("user", "<environment_context>")]
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 400_000}


def long(word: str, tokens: int) -> str:
    return (word + " ") * (tokens * 4 // (len(word) + 1))


def answer(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content}


def texts(items: list[dict[str, Any]]) -> str:
    return "\n".join(part.get("text", "") for item in items for part in item.get("content", []))


def test_the_users_words_stay_and_everything_else_becomes_the_summary():
    history = [*OPENING, prompt.message("user", "do it"), answer(long("work", 30_000))]
    new = compaction.summarised(OPENING, history, "the gist")
    assert new is not None
    assert new[:2] == OPENING
    assert "do it" in texts(new)
    assert texts(new).endswith("the gist")
    assert "work" not in texts(new).replace("repeat work", "")


def test_a_summary_of_a_summary_does_not_keep_the_older_one():
    history = [*OPENING, prompt.message("user", compaction.LEAD_IN + "old gist"), answer("x")]
    new = compaction.summarised(OPENING, history, "new gist")
    assert new is not None
    assert "old gist" not in texts(new)


def test_images_go_before_the_users_words():
    picture = {"type": "message", "role": "user", "content": [IMAGE] * 8}
    history = [*OPENING, prompt.message("user", "look"), picture]
    new = compaction.summarised(OPENING, history, "gist")
    assert new is not None
    assert "input_image" not in str(new)
    assert "look" in texts(new)


def test_the_latest_words_win_when_not_all_fit():
    words = [prompt.message("user", long(f"w{n}", 9_000)) for n in range(4)]
    new = compaction.summarised(OPENING, [*OPENING, *words], "gist")
    assert new is not None
    assert "w3" in texts(new)
    assert "w0" not in texts(new)


def test_a_summary_as_long_as_the_history_is_no_gain():
    history = [*OPENING, answer(long("work", 20_000))]
    assert compaction.summarised(OPENING, history, long("talk", 20_000)) is None


def test_an_empty_summary_replaces_nothing():
    assert compaction.summarised(OPENING, [*OPENING, answer("x")], " \n") is None


def test_attempts_shrink_images_first_and_keep_the_rules():
    picture = {"type": "message", "role": "user", "content": [IMAGE]}
    history = [OPENING[0], picture, *[answer(long("work", 1_000)) for _ in range(20)]]
    tries = list(compaction.attempts(history))
    sizes = [compaction.estimate_tokens(items) for items in tries]
    assert tries[0] == history
    assert len(tries[1]) == len(history)
    assert "input_image" not in str(tries[1])
    assert sizes == sorted(sizes, reverse=True)
    assert all(OPENING[0] in items for items in tries)


def test_the_last_resort_keeps_the_newest_and_only_whole_calls():
    call = {"type": "function_call", "call_id": "c", "name": "t", "arguments": long("a", 9_000)}
    output = {"type": "function_call_output", "call_id": "c", "output": "out"}
    history = [*OPENING, call, output, answer("newest")]
    new = compaction.cut(OPENING, history, 2_000)
    assert new is not None
    assert texts(new).endswith("newest")
    assert output not in new


def test_a_base64_image_does_not_weigh_by_its_letters():
    picture = {"type": "message", "role": "user", "content": [IMAGE]}
    assert compaction.estimate_tokens([picture]) < 2_000


@given(st.lists(st.sampled_from(["u", "a", "c", "o"]), max_size=30), st.integers(0, 40_000))
def test_a_cut_history_is_always_valid_and_within_its_budget(kinds: list[str], budget: int):
    made = {
        "u": prompt.message("user", long("u", 900)),
        "a": answer(long("a", 900)),
        "c": {"type": "function_call", "call_id": "1", "name": "t", "arguments": "{}"},
        "o": {"type": "function_call_output", "call_id": "1", "output": long("o", 900)},
    }
    new = compaction.cut(OPENING, [made[kind] for kind in kinds], budget)
    if new is not None:
        assert prompt.normalise(new) == new
        fixed = compaction.estimate_tokens(OPENING) + 100
        assert compaction.estimate_tokens(new) <= max(budget, fixed) + 100
