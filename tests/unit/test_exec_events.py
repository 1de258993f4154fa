"""The JSON events of `treadle exec` are shaped from notifications as the references shape them."""

from typing import Any

from treadle.cli.exec_events import Shaper


def plan(*statuses: str) -> dict[str, Any]:
    return {"plan": [{"step": f"s{n}", "status": each} for n, each in enumerate(statuses)]}


def shaped(shaper: Shaper, method: str, **params: Any) -> list[dict[str, Any]]:
    return list(shaper.shape(method, params))


def test_a_plan_is_one_list_that_starts_changes_and_ends_with_the_turn() -> None:
    shaper = Shaper()
    first = shaped(shaper, "turn/plan/updated", **plan("inProgress", "pending"))
    second = shaped(shaper, "turn/plan/updated", **plan("completed", "inProgress"))
    last = list(shaper.end({"status": "completed"}))

    assert [event["type"] for event in first + second] == ["item.started", "item.updated"]
    done = {"id": "item_0", "type": "todo_list"}
    items = [{"text": "s0", "completed": True}, {"text": "s1", "completed": False}]
    assert second[0]["item"] == {**done, "items": items}
    assert last[0] == {"type": "item.completed", "item": {**done, "items": items}}
    assert last[1]["type"] == "turn.completed"


def test_messages_are_told_when_whole_and_silent_reasoning_never() -> None:
    shaper = Shaper()
    message = {"type": "agentMessage", "id": "m", "text": "hi"}
    assert shaped(shaper, "item/started", item={**message, "text": ""}) == []
    assert shaped(shaper, "item/completed", item=message) == [
        {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": "hi"}}
    ]
    silent = {"type": "reasoning", "id": "r", "summary": [], "content": []}
    assert shaped(shaper, "item/completed", item=silent) == []


def test_files_and_tool_calls_have_their_members_renamed() -> None:
    shaper = Shaper()
    change = {"path": "/w/a", "kind": {"type": "update", "move_path": None}, "diff": "x"}
    item = {"type": "fileChange", "id": "f", "changes": [change], "status": "inProgress"}
    [event] = shaped(shaper, "item/started", item=item)
    assert event["item"]["changes"] == [{"path": "/w/a", "kind": "update"}]
    assert event["item"]["status"] == "in_progress"
    call = {"type": "mcpToolCall", "id": "c", "server": "s", "tool": "t", "arguments": {"a": 1}}
    call |= {"status": "completed", "error": None}
    call["result"] = {"content": [], "structuredContent": 3, "_meta": None}
    [event] = shaped(shaper, "item/completed", item=call)
    assert event["item"]["result"] == {"content": [], "structured_content": 3}


def test_a_retry_is_an_error_event_with_its_details_and_the_turn_may_still_complete() -> None:
    shaper = Shaper()
    error = {"message": "Reconnecting... 1/2", "additionalDetails": "cut"}
    told = shaped(shaper, "error", error=error, willRetry=True)
    assert told == [{"type": "error", "message": "Reconnecting... 1/2 (cut)"}]
    usage = {"total": {"inputTokens": 3, "cachedInputTokens": 1, "outputTokens": 2}}
    assert shaped(shaper, "thread/tokenUsage/updated", tokenUsage=usage) == []
    [ended] = shaper.end({"status": "completed"})
    assert ended["usage"] == {
        "input_tokens": 3,
        "cached_input_tokens": 1,
        "cache_write_input_tokens": 0,
        "output_tokens": 2,
        "reasoning_output_tokens": 0,
    }


def test_an_interrupted_turn_has_no_end_unless_a_deadline_gives_it_one() -> None:
    turn = {"status": "interrupted", "error": None}
    assert list(Shaper().end(turn)) == []
    [event] = Shaper().end(turn, "the deadline of 1 s has passed")
    assert event == {
        "type": "turn.failed",
        "error": {"message": "the deadline of 1 s has passed"},
    }
