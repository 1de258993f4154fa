"""What lists learn from the two ends of a long rollout."""

import json
from pathlib import Path
from typing import Any

import pytest

from treadle.engine.store.local import head_scan
from treadle.engine.store.local.head_scan import scan_head


def line(kind: str, **payload: Any) -> bytes:
    entry = {"timestamp": "2025-01-02T03:04:05.000Z", "type": kind, "payload": payload}
    return json.dumps(entry).encode() + b"\n"


HEAD = line("session_meta", id="T", timestamp="2025-01-02T03:04:05Z", cwd="/", originator="o")
CHATTER = line("event_msg", type="agent_message", message="x" * 200)


def context(model: str) -> bytes:
    return line("turn_context", turn_id="t", cwd="/", model=model)


def asked(words: str) -> bytes:
    return line("event_msg", type="user_message", message=words)


@pytest.fixture(autouse=True)
def little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_scan, "_SMALL_BYTES", 1000)
    monkeypatch.setattr(head_scan, "_END_BYTES", 4000)


def model_in(folder: Path, data: bytes) -> str | None:
    path = folder / "rollout-a.jsonl"
    path.write_bytes(data)
    head = scan_head(folder, str(path))
    assert head is not None
    assert head.preview == "first"
    return head.settings.model if head.settings is not None else None


def test_the_last_settings_count_though_much_was_said_since(tmp_path: Path) -> None:
    data = HEAD + context("old") + asked("first") + CHATTER * 50 + context("new") + CHATTER * 10
    assert model_in(tmp_path, data) == "new"


def test_the_first_settings_count_where_the_end_tells_none(tmp_path: Path) -> None:
    data = HEAD + context("old") + asked("first") + CHATTER * 100
    assert model_in(tmp_path, data) == "old"


def test_a_log_may_tell_no_settings_at_all(tmp_path: Path) -> None:
    assert model_in(tmp_path, HEAD + asked("first") + CHATTER * 100) is None
