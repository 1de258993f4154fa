"""The scripted backend as users have it: its page tells all modes, their own scripts play."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from treadle.testing.fake_backend import SCRIPTS

PAGE = Path(__file__).parents[2] / "docs/testing.md"
ASK = [
    {"id": 1, "method": "initialize", "params": {}},
    {"method": "initialized"},
    {"id": 2, "method": "thread/start", "params": {}},
    {"id": 3, "method": "turn/start", "params": {"input": [{"type": "text", "text": "weave"}]}},
    {"id": 0, "result": {"decision": "accept"}},
]


def play(*argv: str, **env: str) -> tuple[list[Any], int, str]:
    """What a backend says until its turn or itself ends, how it exits, its standard error."""
    source = str(Path(__file__).parents[2] / "src")
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, *argv],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={"PYTHONPATH": source, **env},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: list[Any] = []
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.writelines(msgspec.json.encode(message) + b"\n" for message in ASK)
            process.stdin.flush()
        for line in process.stdout:
            said.append(msgspec.json.decode(line))
            if said[-1].get("method") == "turn/completed":
                break
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    return said, process.returncode, errors.decode()


def test_the_page_tells_every_mode_and_no_other() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    told = {mode for row in rows for mode in re.findall(r"`([^`]+)`", row)}
    assert told == set(SCRIPTS)


def test_the_script_on_the_page_plays(tmp_path: Path) -> None:
    [script] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "my_agent.py"
    file.write_text(script)
    said, code, errors = play(str(file))
    assert (said[-1]["params"]["turn"]["status"], code) == ("completed", 0), errors
    items = [m["params"]["item"] for m in said if m.get("method") == "item/completed"]
    assert items[-1]["text"] == "You said accept to 'weave'."


def test_an_unknown_mode_is_refused_with_all_there_are() -> None:
    said, code, errors = play(
        "-m", "treadle.testing.fake_backend", TREADLE_FAKE_BACKEND_MODE="nope"
    )
    assert (said, code, "echo-prompt" in errors) == ([], 2, True)
