"""Rollouts as an older program leaves them, for servers that have never seen them."""

import json
import random
import uuid
from pathlib import Path
from typing import Any

_WORDS, _ANSWER = "x" * 200, "y" * 400


def write_rollouts(home: Path, count: int, items: int = 2) -> list[str]:
    """`count` threads of `items` messages each, spread over a year; their ids.

    Ids and contents are the same in every home.
    """
    ids: list[str] = []
    chance = random.Random(1)
    for number in range(count):
        thread_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        day = f"2025-{1 + number % 12:02d}-{1 + number % 28:02d}"
        clock = f"{number % 24:02d}:{number % 60:02d}:{number % 59:02d}"
        folder = home / "sessions" / day[:4] / day[5:7] / day[8:]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rollout-{day}T{clock.replace(':', '-')}-{thread_id}.jsonl"
        path.write_text("".join(_lines(thread_id, f"{day}T{clock}Z", number, items)))
        ids.append(thread_id)
    return ids


def _lines(thread_id: str, stamp: str, number: int, items: int) -> list[str]:
    def line(kind: str, **payload: Any) -> str:
        return json.dumps({"timestamp": stamp, "type": kind, "payload": payload}) + "\n"

    head = {"id": thread_id, "timestamp": stamp, "cwd": "/", "originator": "codex"}
    more = {"cli_version": "0.0.0", "source": "cli", "model_provider": "bench"}
    lines = [line("session_meta", **head, **more)]
    for turn in range(items // 2):
        asked, said = f"prompt {number} {turn} {_WORDS}", f"answer {turn} {_ANSWER}"
        for role, kind, text in (("user", "input", asked), ("assistant", "output", said)):
            content = [{"type": f"{kind}_text", "text": text}]
            event = "user_message" if role == "user" else "agent_message"
            lines.append(line("response_item", type="message", role=role, content=content))
            lines.append(line("event_msg", type=event, message=text))
    return lines
