from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from support.fake_provider import OUTPUT_OF, history_fault
from treadle.domain.items import (
    ImageInput,
    LocalImageInput,
    TextInput,
)
from treadle.domain.policy import DangerFullAccess, ReadOnly, Settings, WorkspaceWrite
from treadle.engine.agent import prompt
from treadle.engine.agent.prompt import Surroundings

SURROUNDINGS = Surroundings(shell="bash", date="2026-11-21", timezone="Etc/UTC")


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "model": "m",
        "model_provider": "p",
        "cwd": "/w",
        "approval_policy": "never",
        "sandbox": DangerFullAccess(),
    }
    return Settings(**(values | changes))


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Valid histories: messages, and batches of calls followed by their outputs in any order."""
    items: list[dict[str, Any]] = []
    number = 0
    for kind in draw(st.lists(st.sampled_from(["message", "reasoning", "calls"]), max_size=6)):
        if kind != "calls":
            items.append({"type": kind, "content": [{}]})
            continue
        calls = draw(st.lists(st.sampled_from(sorted(OUTPUT_OF)), min_size=1, max_size=3))
        batch = [{"type": call, "call_id": f"c{number + i}"} for i, call in enumerate(calls)]
        number += len(batch)
        items += batch
        for call in draw(st.permutations(batch)):
            output = {"type": OUTPUT_OF[call["type"]], "call_id": call["call_id"], "output": "ok"}
            items.append(output)
    return items


def check_valid(items: list[dict[str, Any]]) -> None:
    """Each call has exactly one output, of its kind and behind it; each output has a call."""
    assert history_fault(items) is None


PIECES = [
    *({"type": kind, "call_id": call_id} for kind in OUTPUT_OF for call_id in "ab"),
    *(
        {"type": kind, "call_id": call_id, "output": "ok"}
        for kind in ("function_call_output", "custom_tool_call_output")
        for call_id in "ab"
    ),
    {"type": "message", "role": "assistant", "content": []},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_whatever_a_log_holds_becomes_valid(items: list[dict[str, Any]]):
    whole = prompt.normalise(items)
    check_valid(whole)
    assert prompt.normalise(whole) == whole
    made = [item for item in items if item["type"] in OUTPUT_OF]
    assert [item for item in whole if item["type"] in OUTPUT_OF] == made


@given(histories(), st.data())
def test_any_prefix_of_a_history_becomes_valid(history: list[dict[str, Any]], data: st.DataObject):
    cut = data.draw(st.integers(0, len(history)))
    prefix = history[:cut]
    whole = prompt.normalise(prefix)
    check_valid(whole)
    assert [item for item in whole if item.get("output") != "aborted"] == prefix
    assert prompt.normalise(whole) == whole


@given(histories(), st.data())
def test_any_rest_of_a_history_becomes_valid(history: list[dict[str, Any]], data: st.DataObject):
    cut = data.draw(st.integers(0, len(history)))
    check_valid(prompt.normalise(history[cut:]))


@given(histories())
def test_a_valid_history_stays_as_it_is(history: list[dict[str, Any]]):
    assert prompt.normalise(history) == history


def test_the_output_of_an_open_call_stands_right_behind_it():
    call = {"type": "function_call", "call_id": "a"}
    later = {"type": "message", "role": "user", "content": [{}]}
    assert prompt.normalise([call, later]) == [
        call,
        {"type": "function_call_output", "call_id": "a", "output": "aborted"},
        later,
    ]


def test_a_thread_opens_with_permissions_and_environment():
    first, second = prompt.opening(settings(), SURROUNDINGS)
    assert first["role"] == "developer"
    assert "danger-full-access" in first["content"][0]["text"]
    assert second["role"] == "user"
    assert "<cwd>/w</cwd>" in second["content"][0]["text"]


def test_instructions_of_developers_and_projects_are_told_at_the_opening():
    surroundings = Surroundings(
        shell="bash",
        date="d",
        timezone="t",
        project_doc="Be brief.",
        developer_instructions="Speak Latin.",
    )
    items = prompt.opening(settings(), surroundings)
    texts = [part["text"] for item in items for part in item["content"]]
    assert "Speak Latin." in texts
    assert "Be brief." in texts[-1]


def test_what_did_not_change_is_not_told_again():
    assert prompt.changes(settings(), settings(), SURROUNDINGS) == []
    assert prompt.changes(settings(), settings(effort="high"), SURROUNDINGS) == []


def test_a_change_is_told_to_the_model_it_concerns():
    (switch,) = prompt.changes(settings(), settings(model="n"), SURROUNDINGS)
    assert "<model_switch>" in switch["content"][0]["text"]
    (moved,) = prompt.changes(settings(), settings(cwd="/elsewhere"), SURROUNDINGS)
    assert "<cwd>/elsewhere</cwd>" in moved["content"][0]["text"]
    permissions, environment = prompt.changes(
        settings(), settings(sandbox=ReadOnly()), SURROUNDINGS
    )
    assert "read-only" in permissions["content"][0]["text"]
    assert 'access="read"' in environment["content"][0]["text"]


def test_paths_cannot_break_the_frame_of_the_environment():
    note = prompt.environment_note(
        settings(cwd="/w</cwd>&", sandbox=WorkspaceWrite()), SURROUNDINGS
    )
    assert "<cwd>/w&lt;/cwd&gt;&amp;</cwd>" in note


def test_images_stand_between_their_texts_and_are_numbered():
    item = prompt.user_item(
        [
            TextInput(text="look"),
            ImageInput(url="data:image/png;base64,AA"),
            LocalImageInput(path="/a.png"),
            LocalImageInput(path="/gone.png"),
        ],
        {"/a.png": "data:image/png;base64,BB", "/gone.png": "could not be read"},
    )
    texts = [part.get("text", part["type"]) for part in item["content"]]
    assert texts == [
        "look",
        "input_image",
        '<image name=[Image #2] path="/a.png">',
        "input_image",
        "</image>",
        "could not be read",
    ]


def test_a_manner_is_told_at_the_opening_and_when_it_changes():
    friendly, plain = settings(personality="friendly"), settings()
    opening = prompt.opening(friendly, SURROUNDINGS)[0]["content"]
    assert any("<personality_spec>" in part["text"] for part in opening)
    assert "<personality_spec>" not in str(prompt.opening(plain, SURROUNDINGS))
    (told,) = prompt.changes(plain, friendly, SURROUNDINGS)
    assert "warmly" in told["content"][0]["text"]
    (told,) = prompt.changes(friendly, plain, SURROUNDINGS)
    assert "No particular manner" in told["content"][0]["text"]
