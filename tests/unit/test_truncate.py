from hypothesis import given
from hypothesis import strategies as st

from treadle.engine.tools.truncate import OutputBuffer, cut_text


def fill(limit: int, *pieces: str) -> OutputBuffer:
    buffer = OutputBuffer(limit)
    for piece in pieces:
        buffer.push(piece)
    return buffer


@given(st.lists(st.text(max_size=20)), st.integers(min_value=2, max_value=60))
def test_a_buffer_keeps_head_and_tail_and_counts_the_rest(pieces: list[str], limit: int):
    text = "".join(pieces)
    buffer = fill(limit, *pieces)
    half = limit // 2
    assert buffer.head == text[:half]
    assert buffer.tail == text[half:][-half:]
    assert buffer.missing_chars == max(0, len(text) - 2 * half)
    assert buffer.total_chars == len(text)
    if len(text) <= 2 * half:
        assert buffer.text() == text


def test_memory_stays_bounded_however_much_is_said():
    buffer = OutputBuffer(1000)
    for _ in range(1000):
        buffer.push("x" * 777)
    assert sum(map(len, buffer._tail)) < 500 + 777
    assert len(buffer.text()) < 1050
    assert "776000 characters cut" in buffer.text()


def test_short_output_reaches_the_model_whole():
    assert fill(1000, "a\n", "b\n").for_model(10) == "a\nb\n"


def test_long_output_reaches_the_model_as_its_two_ends():
    buffer = fill(1000, "".join(f"{n:03}\n" for n in range(200)))
    assert buffer.for_model(10) == (
        "Warning: truncated output (original token count: 200)\nTotal output lines: 200\n\n"
        "000\n001\n002\n003\n004\n…190 tokens truncated…195\n196\n197\n198\n199\n"
    )


def test_what_memory_lost_is_counted_for_the_model():
    buffer = fill(100, "".join(f"{n:03}\n" for n in range(200)))
    assert "…190 tokens truncated…" in buffer.for_model(10)


def test_texts_are_counted_in_utf8():
    assert fill(1000, "é" * 8).tokens == 4


def test_cut_text_says_how_much_is_gone():
    assert cut_text("abcdef", 6) == "abcdef"
    assert cut_text("a" * 50 + "b" * 50, 20) == "a" * 10 + "…20 tokens truncated…" + "b" * 10
