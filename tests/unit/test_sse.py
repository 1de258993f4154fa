"""The event stream parser, byte for byte."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fake_provider import (
    calls,
    completed,
    created,
    encode,
    event,
    failed,
    function_call,
    incomplete,
    message,
    reasoning,
    text_delta,
)
from treadle.domain.turns import TokenUsage
from treadle.engine.model.model_client import (
    ModelEvent,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ReasoningTextDelta,
    ResponseCompleted,
    ResponseStarted,
    ToolInputDelta,
)
from treadle.engine.model.sse import SseParser

STARTED = ResponseStarted(None)


def parse(*chunks: bytes, model: str | None = None) -> list[ModelEvent]:
    parser = SseParser(model)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish()


def wire(*events: dict[str, object]) -> bytes:
    return b"".join(encode(item) for item in events)


WHOLE = wire(
    created(),
    *reasoning("hm"),
    *message("héllo ✓", deltas=["hé", "llo ", "✓"]),
    function_call("exec_command", {"cmd": "ls"}),
    completed(),
)


def test_a_whole_response_becomes_its_events_in_order():
    events = parse(WHOLE)
    assert [type(event) for event in events] == [
        ResponseStarted,
        OutputItemAdded,
        ReasoningSummaryPartAdded,
        ReasoningSummaryDelta,
        OutputItemDone,
        OutputItemAdded,
        OutputTextDelta,
        OutputTextDelta,
        OutputTextDelta,
        OutputItemDone,
        OutputItemDone,
        ResponseCompleted,
    ]
    assert events[0] == ResponseStarted("resp-1")
    assert events[6] == OutputTextDelta("hé", "msg-1")
    assert isinstance(events[10], OutputItemDone)
    assert events[10].item["name"] == "exec_command"


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_where_the_chunks_are_cut_makes_no_difference(cuts: list[int]):
    bounds = [0, *sorted(cuts), len(WHOLE)]
    chunks = [WHOLE[a:b] for a, b in itertools.pairwise(bounds)]
    assert parse(*chunks) == parse(WHOLE)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
@given(cut=st.integers(0, len(WHOLE)))
def test_other_line_ends_make_no_difference_wherever_they_are_cut(line_end: bytes, cut: int):
    data = WHOLE.replace(b"\n", line_end)
    assert parse(data[:cut], data[cut:]) == parse(WHOLE)


def test_single_bytes_are_enough():
    assert parse(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == parse(WHOLE)


def test_the_json_type_decides_not_the_event_line():
    data = json.dumps(text_delta("x"))
    assert parse(f"event: response.completed\ndata:{data}\n\n".encode()) == [
        STARTED,
        OutputTextDelta("x", "msg-1"),
    ]


def test_comments_ids_unknown_types_and_junk_are_skipped():
    junk = (
        b": keep-alive\n\nid: 7\nretry: 10\n\ndata: not json\n\ndata: [DONE]\n\ndata: 17\n\n"
        b'data: {"no": "type"}\n\ndata:\n\nnonsense\n\ndata: {"type": "x", "delta": {"odd": 1}}\n\n'
        b'data: {"type": "response.output_text.delta", "delta": "\xff"}\n\n'
    )
    assert parse(junk, wire(text_delta("a")) + junk + wire(text_delta("b"))) == [
        STARTED,
        OutputTextDelta("a", "msg-1"),
        OutputTextDelta("b", "msg-1"),
    ]


def test_data_over_several_lines_is_joined():
    pretty = json.dumps(text_delta("x"), indent=1)
    block = "".join(f"data: {line}\n" for line in pretty.split("\n")) + "\n"
    assert parse(block.encode()) == [STARTED, OutputTextDelta("x", "msg-1")]


def test_a_line_end_cut_in_half_does_not_end_the_event():
    pretty = json.dumps(text_delta("x"), indent=1)
    block = ("".join(f"data: {line}\r\n" for line in pretty.split("\n")) + "\r\n").encode()
    single_bytes = [block[at : at + 1] for at in range(len(block))]
    assert parse(*single_bytes) == [STARTED, OutputTextDelta("x", "msg-1")]


def test_a_last_event_without_blank_line_counts_at_the_end():
    assert isinstance(parse(wire(completed()).rstrip(b"\n"))[-1], ResponseCompleted)


def test_a_byte_order_mark_is_tolerated():
    data = json.dumps(text_delta("x")).encode()
    assert parse(b"\xef\xbb\xbfdata: " + data + b"\n\n")[1:] == [OutputTextDelta("x", "msg-1")]


def test_reasoning_text_and_tool_input_stream_with_their_places():
    raw = event("response.reasoning_text.delta", item_id="rs", content_index=2, delta="so")
    tool = event("response.custom_tool_call_input.delta", item_id="ctc", delta="*** Begin")
    assert parse(wire(raw, tool))[1:] == [
        ReasoningTextDelta("so", "rs", 2),
        ToolInputDelta("*** Begin", "ctc"),
    ]


def test_the_start_names_the_model_of_the_headers_even_without_created():
    assert parse(wire(text_delta("x")), model="other")[0] == ResponseStarted(None, "other")
    assert parse(wire(created("r")), model="other") == [ResponseStarted("r", "other")]


def test_usage_is_read_with_its_details():
    data = wire(completed(input_tokens=100, output_tokens=7, cached_tokens=60, reasoning_tokens=3))
    assert parse(data)[-1] == ResponseCompleted(
        response_id="resp-1",
        usage=TokenUsage(
            total_tokens=107,
            input_tokens=100,
            cached_input_tokens=60,
            output_tokens=7,
            reasoning_output_tokens=3,
        ),
    )


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": "many"}, {"input_tokens": None}])
def test_missing_or_odd_usage_does_not_lose_the_completion(usage: object):
    done = event("response.completed", response={"id": "r", "usage": usage, "end_turn": False})
    last = parse(wire(done))[-1]
    assert isinstance(last, ResponseCompleted)
    assert last.end_turn is False


def test_nothing_counts_after_the_completion():
    parser = SseParser()
    events = parser.feed(wire(completed(), text_delta("late")))
    assert isinstance(events[-1], ResponseCompleted)
    assert parser.completed
    assert parser.feed(wire(text_delta("later"))) == []


@pytest.mark.parametrize(
    ("code", "info", "again"),
    [
        ("rate_limit_exceeded", "rateLimitExceeded", True),
        ("slow_down", "rateLimitExceeded", True),
        ("insufficient_quota", "usageLimitExceeded", False),
        ("usage_not_included", "usageLimitExceeded", False),
        ("invalid_prompt", "other", False),
        ("server_is_overloaded", "serverOverloaded", False),
        ("cyber_policy", "cyberPolicy", False),
        ("context_length_exceeded", "contextWindowExceeded", False),
        ("brand_new_code", "other", True),
    ],
)
def test_a_failed_response_keeps_what_came_before_and_says_what_it_means(
    code: str, info: str, again: bool
):
    parser = SseParser()
    events = parser.feed(wire(text_delta("half"), failed(code, f"why {code}")))
    assert events[-1] == OutputTextDelta("half", "msg-1")
    assert parser.failure is not None
    assert (parser.failure.info, parser.failure.retry_stream) == (info, again)
    assert not parser.completed
    if info == "other":
        assert f"why {code}" in parser.failure.message


@pytest.mark.parametrize(
    ("text", "seconds"), [("Try again in 1.5s.", 1.5), ("try again in 250ms", 0.25), ("soon", None)]
)
def test_a_rate_limit_may_name_its_wait_in_words(text: str, seconds: float | None):
    parser = SseParser()
    parser.feed(wire(failed("rate_limit_exceeded", text)))
    assert parser.failure is not None
    assert parser.failure.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("reason", "again"), [("max_output_tokens", False), ("content_filter", True)]
)
def test_an_incomplete_response_is_a_failure_with_its_reason(reason: str, again: bool):
    parser = SseParser()
    parser.feed(wire(incomplete(reason)))
    assert parser.failure is not None
    assert reason in parser.failure.message
    assert parser.failure.retry_stream is again


def test_a_failure_without_any_detail_is_still_one():
    parser = SseParser()
    parser.feed(b'data: {"type": "response.failed"}\n\n')
    assert parser.failure is not None


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("treadle.engine.model.sse.EVENT_LIMIT_BYTES", 1000)
    parser = SseParser()
    for _ in range(20):
        parser.feed(b"data: " + b"x" * 100)
    assert parser.failure is not None


def test_a_step_of_calls_is_whole():
    step = calls(function_call("a", {}), function_call("b", {}, "call-2"))
    data = b"".join(encode(item) for item in step.events if isinstance(item, dict))
    done = [event for event in parse(data) if isinstance(event, OutputItemDone)]
    assert [event.item["call_id"] for event in done] == ["call-1", "call-2"]
