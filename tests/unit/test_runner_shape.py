"""What becomes of a turn's notifications."""

from typing import Any

from treadle.kit.redact import Redactor
from treadle.runner.shape import (
    OUTPUT_ITEM_LIMIT_CHARS,
    PROGRESS_LIMIT_CHARS,
    TEXT_LIMIT_CHARS,
    Draft,
    Shaper,
)


def shaper(*secrets: str) -> Shaper:
    return Shaper(Redactor(secrets).stream)


def item(stage: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return f"item/{stage}", {"item": fields}


def delta(kind: str, item_id: str, text: str) -> tuple[str, dict[str, Any]]:
    return f"item/{kind}", {"itemId": item_id, "delta": text}


MESSAGE, OUTPUT = "agentMessage/delta", "commandExecution/outputDelta"


def texts(drafts: list[Draft]) -> list[tuple[str, str]]:
    return [(draft.type, str(draft.payload.get("text"))) for draft in drafts]


def test_message_pieces_come_as_one_progress_snapshot_of_the_text_so_far() -> None:
    shape = shaper()
    assert shape.take(*delta(MESSAGE, "m", "one ")) == []
    assert texts(shape.drain()) == [("assistant_message", "one ")]
    shape.take(*delta(MESSAGE, "m", "two"))
    [draft] = shape.drain()
    assert draft.payload == {
        "text": "one two",
        "itemId": "m",
        "source": "agent-message-delta-progress",
        "replyAuthority": False,
        "progress": True,
    }
    assert not shape.has_pending


def test_gathered_text_comes_before_the_tool_that_follows_it() -> None:
    shape = shaper()
    shape.take(*delta(MESSAGE, "m", "looking"))
    drafts = shape.take(*item("started", type="webSearch", id="w", query=""))
    assert [draft.type for draft in drafts] == ["assistant_message", "tool_call"]


def test_a_completed_message_replaces_its_own_unsent_progress() -> None:
    shape = shaper()
    shape.take(*delta(MESSAGE, "m", "hal"))
    drafts = shape.take(*item("completed", type="agentMessage", id="m", text="half"))
    assert [d.payload["source"] for d in drafts] == ["completed-agent-message"]
    assert not shape.has_pending


def test_output_comes_before_the_end_of_its_command() -> None:
    shape = shaper()
    shape.take(*item("started", type="commandExecution", id="c", command="make"))
    shape.take(*delta(OUTPUT, "c", "a\n"))
    shape.take(*delta(OUTPUT, "c", "b\n"))
    fields = {"id": "c", "command": "make", "aggregatedOutput": "a\nb\n", "exitCode": 0}
    drafts = shape.take(*item("completed", type="commandExecution", status="completed", **fields))
    assert texts(drafts[:1]) == [("command_output", "a\nb\n")]
    assert drafts[1].payload["summary"]["text"] == "commandExecution completed: make"
    assert drafts[1].payload["exitCode"] == 0


def test_a_command_that_streamed_nothing_shows_its_output_at_the_end() -> None:
    drafts = shaper().take(
        *item("completed", type="commandExecution", id="c", command="ls", aggregatedOutput="a")
    )
    assert texts(drafts[:1]) == [("command_output", "a")]


def test_a_failed_tool_says_so() -> None:
    failed = item("completed", type="commandExecution", id="c", command="x", status="failed")
    [draft] = shaper().take(*failed)
    assert draft.payload["summary"]["text"] == "commandExecution failed: x"


def test_tools_are_named_and_described_without_their_raw_item() -> None:
    [mcp] = shaper().take(*item("started", type="mcpToolCall", id="t", server="s", tool="look"))
    assert mcp.payload == {
        "method": "item/started",
        "type": "mcpToolCall",
        "toolName": "look",
        "itemId": "t",
        "summary": {"text": "mcpToolCall started: s.look"},
    }
    changes = [{"path": "/w/a"}, {"path": "/w/b"}]
    [patch] = shaper().take(*item("started", type="fileChange", id="p", changes=changes))
    assert patch.payload["summary"]["text"] == "fileChange started: /w/a, /w/b"


def test_a_secret_cut_across_pieces_never_shows() -> None:
    shape = shaper("canary-secret")
    shape.take(*delta(OUTPUT, "c", "x canary-"))
    first = shape.drain()
    shape.take(*delta(OUTPUT, "c", "secret y"))
    assert texts(first + shape.drain()) == [
        ("command_output", "x "),
        ("command_output", "[redacted] y"),
    ]


def test_what_looked_like_a_secret_is_told_when_its_command_ends() -> None:
    shape = shaper("canary-secret")
    shape.take(*delta(OUTPUT, "c", "x canary-"))
    drafts = shape.take(*item("completed", type="commandExecution", id="c", command="x"))
    assert texts(drafts[:1]) == [("command_output", "x canary-")]


def test_texts_are_bounded_and_say_what_was_cut() -> None:
    shape = shaper()
    long = "x" * (TEXT_LIMIT_CHARS + 5)
    [done] = shape.take(*item("completed", type="agentMessage", id="m", text=long))
    assert (len(done.payload["text"]), done.payload["totalChars"]) == (TEXT_LIMIT_CHARS, len(long))
    shape.take(*delta(MESSAGE, "n", "y" * (PROGRESS_LIMIT_CHARS + 1)))
    [progress] = shape.drain()
    assert (len(progress.payload["text"]), progress.payload["truncated"]) == (8_000, True)


def test_output_of_one_command_is_bounded_and_says_that_it_was_cut() -> None:
    shape = shaper()
    drafts: list[Draft] = []
    for _ in range(60):
        drafts += shape.take(*delta(OUTPUT, "c", "z" * 10_000))
    drafts += shape.drain()
    assert sum(len(draft.payload["text"]) for draft in drafts) == OUTPUT_ITEM_LIMIT_CHARS
    assert [d.payload.get("truncated", False) for d in drafts] == [False] * (len(drafts) - 1) + [
        True
    ]


def test_what_is_left_out_is_counted_by_values_never_by_keys() -> None:
    shape = shaper()
    assert shape.summary() == []
    shape.take("thread/tokenUsage/updated", {})
    shape.take("item/reasoning/textDelta", {"delta": "hidden"})
    shape.take(*item("started", type="reasoning", id="r"))
    shape.take("turn/started", {})
    [summary] = shape.summary()
    assert summary.payload["total"] == 3
    assert {"method": "thread/tokenUsage/updated", "count": 1} in summary.payload["methods"]
    assert summary.payload["itemTypes"] == [{"itemType": "reasoning", "count": 2}]
    assert "hidden" not in repr(summary)
