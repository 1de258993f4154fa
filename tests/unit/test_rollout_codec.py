"""Rollout lines from and to records: both generations, older files, and broken ones."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.domain import history
from treadle.domain.items import (
    AgentMessage,
    CommandExecution,
    ContextCompaction,
    DynamicToolCall,
    EnteredReviewMode,
    ExitedReviewMode,
    FileChange,
    FileUpdate,
    ImageInput,
    ImageView,
    LocalImageInput,
    McpToolCall,
    Plan,
    Reasoning,
    TextInput,
    UserMessage,
    WebSearch,
    input_text,
)
from treadle.domain.policy import (
    DangerFullAccess,
    ExternalSandbox,
    ReadOnly,
    SandboxPolicy,
    WorkspaceWrite,
)
from treadle.domain.records import (
    ContextReplaced,
    Foreign,
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadCreated,
    ThreadRecord,
    TurnContext,
    TurnEnded,
    TurnStarted,
    UsageRecorded,
)
from treadle.domain.turns import ThreadTokenUsage, TokenUsage, TurnError
from treadle.engine.store.local import codec, rollout_files
from treadle.engine.store.local.codec import LineReader
from treadle.engine.store.local.line_writer import LineWriter
from treadle.engine.store.local.rollout_files import lineage
from treadle.testing.thread_store import START, a_thread, settings

GOLDEN = Path(__file__).parent.parent / "golden" / "rollouts"

ITEMS = [
    UserMessage(
        id="u",
        client_id="c",
        content=[
            TextInput(text="look", text_elements=[{"byteRange": {"start": 0, "end": 4}}]),
            ImageInput(url="data:image/png;base64,AA"),
            LocalImageInput(path="/w/a.png"),
        ],
    ),
    AgentMessage(id="m", text="said", phase="final"),
    Plan(id="p", text="- step"),
    Reasoning(id="r", summary=["a", "b"], content=["raw"]),
    CommandExecution(
        id="c",
        command="/bin/bash -lc 'echo \"a b\"'",
        cwd="/w/with space",
        process_id="77",
        source="unifiedExecStartup",
        status="completed",
        command_actions=[{"type": "listFiles", "command": "ls", "path": None}],
        aggregated_output="out\n",
        exit_code=0,
        duration_ms=1234,
    ),
    CommandExecution(id="d", command="echo 'unclosed", cwd="/w", status="declined"),
    FileChange(
        id="f",
        status="completed",
        changes=[
            FileUpdate(path="/w/new", kind={"type": "add"}, diff="line\n"),
            FileUpdate(path="/w/old", kind={"type": "delete"}, diff="gone\n"),
            FileUpdate(path="/w/x", kind={"type": "update", "move_path": "/w/y"}, diff="@@"),
        ],
    ),
    McpToolCall(
        id="t",
        server="s",
        tool="do",
        status="completed",
        arguments={"someKey": 1},
        result={"content": [], "structuredContent": None},
        duration_ms=3,
    ),
    DynamicToolCall(id="y", tool="lookup", arguments={"id": "7"}, status="failed", success=False),
    WebSearch(id="w", query="q", action={"type": "openPage", "url": "u"}),
    ImageView(id="v", path="/w/a b.png"),
    EnteredReviewMode(id="e", review="current changes"),
    ExitedReviewMode(id="x", review="fine"),
    ContextCompaction(id="k"),
]


def read(data: bytes) -> LineReader:
    reader = LineReader()
    reader.feed(data)
    reader.finish()
    return reader


def written(*records: ThreadRecord, ordinal: int | None = 0) -> bytes:
    return LineWriter("T", ordinal).encode(list(records))


def line(kind: str, **payload: Any) -> bytes:
    entry = {"timestamp": "2025-01-02T03:04:05.000Z", "type": kind, "payload": payload}
    return json.dumps(entry).encode() + b"\n"


def event(kind: str, **payload: Any) -> bytes:
    return line("event_msg", type=kind, **payload)


HEAD = line("session_meta", id="T", timestamp="2025-01-02T03:04:05Z", cwd="/", originator="o")


def talk(records: list[ThreadRecord]) -> list[tuple[str, list[str]]]:
    """Each turn's status and what was said in it."""
    found: list[tuple[str, list[str]]] = []
    for turn in history.turns(records):
        words = [
            item.text if isinstance(item, AgentMessage) else input_text(item.content)
            for item in turn.items
            if isinstance(item, AgentMessage | UserMessage)
        ]
        found.append((turn.status, words))
    return found


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_every_item_comes_back_as_it_was_written(item: Any) -> None:
    record = ItemDone(at=START, turn_id="t", item=item, started_at_ms=1, completed_at_ms=2)
    assert read(written(record)).records == [record]


@pytest.mark.parametrize(
    "sandbox",
    [
        DangerFullAccess(),
        ReadOnly(network_access=True),
        WorkspaceWrite(writable_roots=("/a",), network_access=True, exclude_slash_tmp=True),
        ExternalSandbox(network_access="enabled"),
    ],
    ids=lambda sandbox: type(sandbox).__name__,
)
def test_settings_come_back_whole(sandbox: SandboxPolicy) -> None:
    chosen = msgspec.structs.replace(
        settings(),
        sandbox=sandbox,
        approval_policy={"granular": {"rules": True}},
        summary="concise",
        service_tier="fast",
        personality="friendly",
        approvals_reviewer="auto",
        collaboration_mode={"mode": "plan", "settings": {"model": "m"}},
    )
    context = TurnContext(at=START, turn_id="t", settings=chosen)
    wanted: list[ThreadRecord] = [SettingsApplied(at=START, settings=chosen), context]
    assert read(written(*wanted)).records == wanted


def test_all_other_records_come_back_as_they_were_written() -> None:
    counts = TokenUsage(total_tokens=5, input_tokens=3, cache_write_input_tokens=1, output_tokens=2)
    failure = TurnError(
        message="gone",
        codex_error_info={"httpConnectionFailed": {"httpStatusCode": 404}},
        additional_details="more",
    )
    wanted: list[ThreadRecord] = [
        a_thread(
            thread_id="T",
            source={"subAgent": {"thread_spawn": {"parent_thread_id": "P", "depth": 1}}},
            parent_thread_id="P",
            forked_from_id="F",
            thread_source="x",
            base_instructions="BASE",
            developer_instructions="DEV",
            dynamic_tools=[{"name": "lookup", "inputSchema": {}}],
            git={"sha": "abc", "branch": "main", "originUrl": None},
            agent_nickname="nick",
            agent_role="role",
        ),
        TurnStarted(at=START, turn_id="t", started_at=7, model_context_window=100),
        ModelItem(at=START, turn_id="t", item={"type": "function_call", "call_id": "c"}),
        ModelItem(at=START, item={"type": "message", "role": "user", "content": []}),
        UsageRecorded(
            at=START,
            turn_id="t",
            usage=ThreadTokenUsage(total=counts, last=counts, model_context_window=9),
            rate_limits={"limit_id": "x"},
        ),
        UsageRecorded(at=START, turn_id="t", usage=None),
        ContextReplaced(at=START, message="s", items=[{"type": "message"}]),
        TurnEnded(at=START, turn_id="t", status="failed", error=failure, completed_at=9),
        TurnEnded(at=START, turn_id="t2", status="interrupted", reason="replaced", completed_at=9),
        Foreign(at=START, type="world_state", payload={"full": True}),
        Foreign(at=START, type="event_msg", payload={"type": "never_heard_of"}),
    ]
    assert read(written(*wanted)).records == wanted


def test_lines_count_ordinals_and_go_on_where_a_file_ended() -> None:
    data = written(a_thread("T"), ItemDone(at=START, turn_id="t", item=ITEMS[0]))
    lines = [json.loads(raw) for raw in data.splitlines()]
    assert [entry["ordinal"] for entry in lines] == [0, 1, 2]
    assert read(data).next_ordinal == 3
    assert read(written(a_thread("T"), ordinal=None)).next_ordinal is None


def test_older_readers_find_messages_as_events_and_we_do_not_see_them_twice() -> None:
    asked = ItemDone(at=START, turn_id="t", item=ITEMS[0], started_at_ms=1, completed_at_ms=1)
    said = ItemDone(at=START, turn_id="t", item=ITEMS[1], started_at_ms=1, completed_at_ms=1)
    data = written(asked, said)
    events = [json.loads(raw)["payload"] for raw in data.splitlines()]
    assert [(e["type"], e.get("message")) for e in events if "message" in e] == [
        ("user_message", "look"),
        ("agent_message", "said"),
    ]
    assert read(data).records == [asked, said]


def test_a_thread_of_the_older_reference_reads_with_turns_and_context() -> None:
    reader = read((GOLDEN / "legacy.jsonl").read_bytes())
    assert reader.skipped == 0
    assert talk(reader.records) == [
        ("completed", ["run it", "I will run it", "fin"]),
        ("completed", ["patch it", "patched"]),
        ("completed", ["fail it"]),
        ("interrupted", ["stop me"]),
        ("completed", []),
    ]
    created = reader.records[0]
    assert isinstance(created, ThreadCreated)
    assert (created.base_instructions, created.history_mode) == ("BASE", "legacy")
    calls = [record.content["type"] for record in reader.records if isinstance(record, ModelItem)]
    assert calls.count("function_call") == calls.count("function_call_output") == 1
    chosen = history.LogFold(reader.records).settings
    assert chosen is not None
    assert (chosen.model, chosen.model_provider, chosen.sandbox) == (
        "mock-model",
        "mock_provider",
        DangerFullAccess(),
    )


def test_a_thread_of_the_newer_reference_reads_with_turns_and_context() -> None:
    reader = read((GOLDEN / "paginated.jsonl").read_bytes())
    assert (reader.skipped, reader.next_ordinal) == (0, 62)
    turns = history.turns(reader.records)
    assert [turn.status for turn in turns] == [
        "completed",
        "completed",
        "failed",
        "interrupted",
        "completed",
    ]
    assert turns[2].error is not None
    assert "no such thing" in turns[2].error.message
    assert [type(item) for item in turns[0].items] == [
        UserMessage,
        Reasoning,
        AgentMessage,
        CommandExecution,
        AgentMessage,
    ]
    assert turns[0].items[3].command == "/bin/bash -lc 'echo hi'"
    context = history.model_context(reader.records)
    assert all("internal_chat_message_metadata_passthrough" not in item for item in context)
    usage = history.LogFold(reader.records).usage
    assert usage is not None
    assert usage.usage is not None
    assert usage.usage.total.total_tokens == 75


@pytest.mark.parametrize(("name", "words"), [("fork", "in fork"), ("revert", "after revert")])
def test_forks_and_reverts_read_through_to_the_file_they_build_upon(
    tmp_path: Path, name: str, words: str
) -> None:
    folder = tmp_path / "sessions" / "2026" / "11" / "21"
    folder.mkdir(parents=True)
    base = "01a1fbee-9f73-7b30-b250-8300ac95f813"
    shutil.copy(GOLDEN / "paginated.jsonl", folder / f"rollout-2026-11-21T02-28-02-{base}.jsonl")
    own = {
        "fork": "01a1fbee-ab23-73a3-b8b1-d47f55094832",
        "revert": f"{base}_01a1fbee-ab88-7152-aeb3-7cfb1b297559",
    }[name]
    path = folder / f"rollout-2026-11-21T02-28-05-{own}.jsonl"
    shutil.copy(GOLDEN / f"{name}.jsonl", path)
    reader = LineReader()
    for part in lineage(tmp_path, path):
        reader.feed(part)
    assert [said for _, said in talk(reader.finish())] == [
        ["run it", "I will run it", "fin"],
        [words, "Done"],
    ]


def test_messages_alone_make_turns() -> None:
    data = HEAD
    for text in ("one", "two"):
        data += event("user_message", message=text) + event("agent_message", message=f"re {text}")
    assert talk(read(data).records) == [
        ("completed", ["one", "re one"]),
        ("completed", ["two", "re two"]),
    ]
    ids = [turn.id for turn in history.turns(read(data).records)]
    assert ids == [turn.id for turn in history.turns(read(data).records)]
    assert len(set(ids)) == 2


def test_steering_stays_in_its_turn() -> None:
    data = HEAD + event("task_started", turn_id="t") + event("user_message", message="one")
    data += event("user_message", message="steer") + event("task_complete", turn_id="t")
    assert talk(read(data).records) == [("completed", ["one", "steer"])]


def test_reasoning_events_of_one_thought_make_one_item() -> None:
    data = HEAD + event("task_started", turn_id="t")
    data += event("agent_reasoning", text="a") + event("agent_reasoning", text="b")
    data += event("agent_message", message="x") + event("agent_reasoning", text="c")
    [turn] = history.turns(read(data).records)
    assert [getattr(item, "summary", None) for item in turn.items] == [["a", "b"], None, ["c"]]


def test_turns_that_were_rolled_back_are_gone_for_people_and_model() -> None:
    data = HEAD
    for k in range(3):
        data += event("task_started", turn_id=f"t{k}") + line("response_item", type="message", n=k)
        data += event("user_message", message=f"q{k}") + event("task_complete", turn_id=f"t{k}")
    records = read(data + event("thread_rolled_back", num_turns=2)).records
    assert talk(records) == [("completed", ["q0"])]
    assert [item["n"] for item in history.model_context(records)] == [0]


def test_files_from_before_the_envelope_are_read() -> None:
    data = b'{"id":"T","timestamp":"2025-01-02T03:04:05Z","instructions":"I"}\n'
    for role, text in (("user", "<context>"), ("user", "hi"), ("assistant", "hello")):
        content = [{"type": "input_text", "text": text}]
        entry = {"type": "message", "role": role, "content": content}
        data += json.dumps(entry).encode() + b"\n"
    reader = read(data)
    created = reader.records[0]
    assert isinstance(created, ThreadCreated)
    assert (created.thread_id, created.base_instructions, created.at) == ("T", "I", START)
    assert talk(reader.records) == [("completed", ["hi", "hello"])]
    assert len(history.model_context(reader.records)) == 3


def test_broken_lines_are_counted_and_cost_nothing_else() -> None:
    bad = b'garbage\n[1]\n"x"\n\xff\xfe{}\n{"type":5}\n\n   \n{"timestamp":"never","type":"x"}\n'
    bad += event("item_completed", turn_id="t") + event("token_count", info=3)
    bad += line("response_item")[:-20] + b"\n"
    reader = read(HEAD + bad + event("user_message", message="still here"))
    assert talk(reader.records) == [("completed", ["still here"])]
    assert reader.skipped == 9


LINES = [raw for path in sorted(GOLDEN.iterdir()) for raw in path.read_bytes().splitlines()]


def mangled(value: Any, draw: st.DataObject) -> Any:
    """`value` with one of its parts, at any depth, replaced by something else."""
    if isinstance(value, dict) and value and draw.draw(st.integers(0, 3)):
        key = draw.draw(st.sampled_from(sorted(value)))
        return {**value, key: mangled(value[key], draw)}
    return draw.draw(st.sampled_from([None, 3, -1.5, "x", "", [], {}, [1], {"a": 1}, True]))


@given(st.data())
@hypothesis.settings(max_examples=100, deadline=None)
def test_no_mangled_line_is_fatal_or_takes_others_along(draw: st.DataObject) -> None:
    raw = draw.draw(st.sampled_from(LINES))
    cut = json.dumps(mangled(json.loads(raw), draw)).encode()
    cut = cut[: draw.draw(st.integers(len(cut) // 2, len(cut) * 2))]
    data = HEAD + event("user_message", message="before") + cut + b"\n"
    records = read(data + event("user_message", message="after")).records
    words = {word for _, said in talk(records) for word in said}
    history.LogFold(records).context()()
    rolled_back = b"thread_rolled_back" in cut
    assert "after" in words
    assert rolled_back or "before" in words


def test_a_null_payload_or_unknown_kind_is_kept_as_foreign() -> None:
    reader = read(HEAD + b'{"type":"odd","payload":null}\n{"type":"event_msg","payload":[1]}\n')
    kept = [record for record in reader.records if isinstance(record, Foreign)]
    assert [(record.type, record.payload) for record in kept] == [("odd", None), ("event_msg", [1])]


def logs() -> list[bytes]:
    """Whole logs of several makers: the references, the bare form, Treadle with every item."""
    made = [path.read_bytes() for path in sorted(GOLDEN.iterdir())]
    bare = b'{"id":"T","timestamp":"2025-01-02T03:04:05Z"}\n{"type":"message","role":"user"}\n'
    done = [ItemDone(at=START, turn_id="t", item=item) for item in ITEMS]
    ended = TurnEnded(at=START, turn_id="t", status="completed", completed_at=9)
    own = written(a_thread("T"), TurnStarted(at=START, turn_id="t", started_at=7), *done, ended)
    said = event("user_message", message="") + event("agent_message", message="é\U0001f9f5")
    said += event("error", message="gone") + event("task_complete", turn_id="t")
    said += line("response_item", type="message", text="\U0001f9f5", n=10**30)
    said += line("response_item", type="message", **{"internal_chat_message_metadata": 1})
    return [*made, bare, own, HEAD + said, HEAD + b"garbage\n" + said]


def none_of_these(_payload: object) -> NoReturn:
    raise msgspec.ValidationError


@pytest.mark.parametrize("data", logs())
def test_the_quick_way_reads_what_the_careful_way_reads(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, singly = read(data), LineReader()
    for raw in data.splitlines(keepends=True):
        singly.feed(raw)
    singly.finish()
    monkeypatch.setattr(codec, "decode_block", lambda _block: None)
    monkeypatch.setattr(codec, "decode_event", none_of_these)
    careful = read(data)
    for quick in (whole, singly):
        assert quick.records == careful.records
        assert (quick.skipped, quick.next_ordinal) == (careful.skipped, careful.next_ordinal)


@hypothesis.settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=30),
    block=st.integers(1, 50),
    cut=st.none() | st.integers(0, 900),
    torn=st.sampled_from([b"", b'{"a":', b'{"a":1}']),
)
def test_a_log_is_read_in_blocks_of_whole_lines(
    lengths: list[int], block: int, cut: int | None, torn: bytes
) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths) + torn
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout_files, "_BLOCK_BYTES", block)
        path = Path(folder, "rollout-a.jsonl")
        path.write_bytes(data)
        parts = list(rollout_files.whole_lines(path, cut))
    kept = data if cut is None else data[:cut]
    whole = kept[: kept.rfind(b"\n") + 1]
    if kept.endswith(b'{"a":1}'):
        whole = kept + b"\n"  # a last line that is all there, but for its end
    assert b"".join(parts) == whole
    assert all(part.endswith(b"\n") for part in parts)


def test_an_item_that_nobody_can_read_is_passed_over_in_the_context() -> None:
    odd = b'{"timestamp":"2025-01-02T03:04:05Z","type":"response_item","payload":{"n":1e999}}\n'
    records = read(HEAD + odd + line("response_item", type="message", n=2)).records
    assert [item["n"] for item in history.model_context(records)] == [2]
