import json

from treadle.engine.agent import review_text


def finding(title: str) -> dict[str, object]:
    return {"title": title, "body": "Why.\nAnd how."}


def test_several_findings_have_the_plural_heading_and_indented_bodies():
    answer = json.dumps({"overall_explanation": "Bad.", "findings": [finding("A"), finding("B")]})
    assert review_text.readable(answer) == (
        "Bad.\n\nFull review comments:\n\n- A\n  Why.\n  And how.\n\n- B\n  Why.\n  And how."
    )


def test_a_fence_around_the_answer_does_not_matter():
    answer = '```json\n{"findings": [], "overall_explanation": "Fine."}\n```'
    assert review_text.readable(answer) == "Fine."


def test_plain_words_and_other_objects_stay_as_they_are():
    for words in ("looks good", "use {braces}", '{"other": 1}'):
        assert review_text.readable(words) == words


def test_nothing_at_all_says_so():
    for nothing in ("", '{"findings": []}', '{"findings": ["odd", 3]}'):
        assert review_text.readable(nothing) == review_text.NO_OUTPUT
