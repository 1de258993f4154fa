"""Secrets stay out of text in every form they take and however the text is cut."""

import base64
import itertools
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.kit.redact import MARK, Redactor

SECRET = 'p4ss"wörd/+key=\\42'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(SECRET))[3:-3],
        SECRET.encode().hex(),
    ],
)
def test_each_encoding_of_a_secret_is_redacted(form: str) -> None:
    assert Redactor([SECRET]).text(f"a {form} b") == f"a {MARK} b"


@pytest.mark.parametrize("before", ["", "x", "xy", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_inside_something_base64_encoded_is_redacted(
    before: str, encode: Callable[[bytes], bytes]
) -> None:
    encoded = encode(f"{before}{SECRET}:tail".encode()).decode()
    redacted = Redactor([SECRET]).text(encoded)
    around, rest = redacted.split(MARK)
    # What is left encodes the neighbours and at most one byte of the secret on either side.
    assert len(around) <= -(-len(before) * 8 // 6)
    assert len(rest.rstrip("=")) <= -(-len(":tail") * 8 // 6) + 1


def test_values_are_redacted_at_any_depth_and_in_keys() -> None:
    value = {"a": [{"b": f"x{SECRET}"}], SECRET: 1, "n": None, "i": 7}
    expected = {"a": [{"b": f"x{MARK}"}], MARK: 1, "n": None, "i": 7}
    assert Redactor([SECRET]).value(value) == expected


def test_short_values_are_no_secrets() -> None:
    assert Redactor(["on", ""]).text("turn on") == "turn on"


def test_token_shapes_are_redacted_only_when_asked() -> None:
    text = "key sk-abcdefghijklmnopqrstuvwxyz and Bearer abcdefghijklmnopqrstuvwxyz0123"
    assert Redactor([]).text(text) == text
    assert Redactor([], token_shapes=True).text(text) == f"key {MARK} and Bearer {MARK}"


def test_of_two_secrets_that_begin_alike_the_longer_leaves_no_tail() -> None:
    stream = Redactor(["secret-one", "secret-one-and-more"]).stream()
    out = stream.feed("x secret-one") + stream.feed("-and-more y") + stream.flush()
    assert out == f"x {MARK} y"


def test_ordinary_text_is_not_held_back() -> None:
    assert Redactor(["secret-value"]).stream().feed("nothing to hide here") == (
        "nothing to hide here"
    )


TEXT = st.lists(st.sampled_from(["secret", "secret-two", "se", "cret", "a", "-", " "]), max_size=12)


@given(parts=TEXT, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_a_stream_says_what_the_whole_text_would(parts: list[str], cuts: list[int]) -> None:
    redactor = Redactor(["secret", "secret-two"])
    text = "".join(parts)
    stream = redactor.stream()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    out = "".join(stream.feed(piece) for piece in pieces) + stream.flush()
    assert out == redactor.text(text)


def test_json_text_inside_json_text_hides_nothing():
    secret = 'quote"and\\backslash'
    text = secret
    for _ in range(4):
        text = json.dumps({"key": text})
        assert "backslash" not in Redactor([secret]).text(text)


def test_many_secrets_cost_little_where_there_is_none():
    """With one pattern of all their forms this took forty times as long as with one secret."""
    text = "an ordinary line of output, " * 20
    few, many = (Redactor([f"secret-number-{n:04}" for n in range(count)]) for count in (2, 60))

    def cost(redactor: Redactor) -> float:
        stream = redactor.stream()
        began = time.process_time()
        for _ in range(30):
            stream.feed(text)
        return time.process_time() - began

    assert min(cost(many) for _ in range(5)) < 30 * min(cost(few) for _ in range(5)) + 0.01
