"""`treadle threads`: what it finds in a home, what it mends, and what it leaves alone."""

import json
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

HEAD = {"timestamp": "2025-01-02T03:04:05Z", "cwd": "/"}


def threads(home: Path, *arguments: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "treadle.cli.main", "threads", *arguments]
    done = subprocess.run(
        [*command, "--home", str(home), "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def line(kind: str, **payload: Any) -> bytes:
    entry = {"timestamp": "2025-01-02T03:04:05.000Z", "type": kind, "payload": payload}
    return json.dumps(entry).encode() + b"\n"


def rollout(home: Path, *parts: bytes, name: str = "") -> Path:
    thread_id = str(uuid.uuid4())
    folder = home / "sessions/2025/01/02"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"rollout-2025-01-02T03-04-05-{thread_id}.jsonl")
    asked = line("event_msg", type="user_message", message="words")
    path.write_bytes(line("session_meta", id=thread_id, **HEAD) + asked + b"".join(parts))
    return path


def found(report: Any) -> dict[str, str]:
    return {Path(each["path"]).name: each["problem"] for each in report["findings"]}


def test_damage_is_found_and_mended_without_a_loss(tmp_path: Path) -> None:
    rollout(tmp_path, line("never_heard_of", a=1), name="rollout-sound.jsonl")
    torn = rollout(tmp_path, b'{"timestamp":"2025', name="rollout-torn.jsonl")
    rollout(tmp_path, b"garbage\n", b"\xff\xfe{}\n", name="rollout-garbage.jsonl")
    (tmp_path / "sessions/2025/01/02/rollout-empty.jsonl").write_bytes(b"")
    (tmp_path / "sessions/2025/01/02/rollout-nobody.jsonl").write_bytes(b"{}\n")
    (tmp_path / "sessions/2025/01/02/rollout-packed.jsonl.zst").write_bytes(b"not packed")
    (tmp_path / "sessions/2025/01/02/.rollout-x.jsonl.copy").write_bytes(b"half")
    base = {"thread_id": str(uuid.uuid4()), "end_ordinal_exclusive": 1, "end_byte_offset": 1}
    head = line("session_meta", id=str(uuid.uuid4()), history_base=base, **HEAD)
    (tmp_path / "sessions/2025/01/02/rollout-fork.jsonl").write_bytes(head)
    before = {path: path.read_bytes() for path in tmp_path.rglob("rollout-*")}
    code, report = threads(tmp_path, "fsck")
    assert found(report) == {
        "rollout-torn.jsonl": "tornEnd",
        "rollout-garbage.jsonl": "badLines",
        "rollout-empty.jsonl": "empty",
        "rollout-nobody.jsonl": "noHead",
        "rollout-packed.jsonl.zst": "unreadable",
        ".rollout-x.jsonl.copy": "scratch",
        "rollout-fork.jsonl": "baseMissing",
    }
    assert (code, report["files"], report["threads"]) == (7, 7, 4)
    [garbage] = [each for each in report["findings"] if each["problem"] == "badLines"]
    assert "2 lines" in garbage["detail"]
    assert garbage["detail"].endswith(": 3, 4")
    assert {path: path.read_bytes() for path in tmp_path.rglob("rollout-*")} == before
    code, report = threads(tmp_path, "fsck", "--repair")
    repaired = {Path(e["path"]).name for e in report["findings"] if e.get("repaired")}
    assert repaired == {"rollout-torn.jsonl", ".rollout-x.jsonl.copy"}
    assert torn.read_bytes() == before.pop(torn) + b"\n"
    assert {path: path.read_bytes() for path in before} == before
    assert code == 7, "a damaged compressed file and a missing base are for people to look at"


def test_a_wrong_index_is_made_anew(tmp_path: Path) -> None:
    first, second = rollout(tmp_path), rollout(tmp_path)
    for path in (first, second):
        assert threads(tmp_path, "free", path.stem[-36:])[0] == 0, "puts it into the index"
    assert threads(tmp_path, "fsck") == (
        0,
        {"home": str(tmp_path), "files": 2, "threads": 2, "findings": []},
    )
    with sqlite3.connect(tmp_path / "treadle_index_1.sqlite") as index:
        wrong = str(second.relative_to(tmp_path))
        where = "DELETE FROM threads WHERE path = ?"
        index.execute(where, (wrong,))
        index.execute("UPDATE threads SET path = ?", (wrong,))
    index.close()
    code, report = threads(tmp_path, "fsck")
    assert code == 7
    assert set(found(report).values()) == {"indexStale", "indexMissing"}
    assert threads(tmp_path, "fsck", "--repair")[0] == 0
    assert threads(tmp_path, "fsck")[1]["findings"] == []


def test_only_what_is_there_can_be_looked_after(tmp_path: Path) -> None:
    code, told = threads(tmp_path, "free", str(uuid.uuid4()))
    assert (code, "no rollout found" in told) == (1, True)
    code, told = threads(tmp_path / "nowhere", "fsck")
    assert (code, "name one with --home" in told) == (1, True)


def test_the_benchmark_of_stored_threads_measures_a_server() -> None:
    arguments = ["bench", "threads", "--rounds", "1", "--files", "6", "--items", "4", "--json"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "treadle.cli.main",
            *arguments,
            "--only",
            "list",
            "--only",
            "resume",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    figures = json.loads(done.stdout)["treadle"]
    assert figures["threads seen in them"] == 6
    assert figures["resume 4 items, later, ms"] > 0
