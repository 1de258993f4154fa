"""More of what the fake app-server does in a turn: ways to break, and to tell what it must not.

Modes beyond the contract's, for drills of a runner and of what is behind it. `DRILLS` is their
table. Knows the fake server and the scripts of the contract.
"""

import base64
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote, quote_plus

from treadle.testing.fake_scripts import SCRIPTS, show_command, show_output
from treadle.testing.fake_server import FakeServer, Refused, Script

CRUMBS_EACH = 23
"""Every so many forms of a secret come in pieces of one to three characters."""


def dies_by_signal(number: signal.Signals, server: FakeServer, _prompt: str) -> None:
    """The process is killed by a signal in the middle of a turn."""
    server.answer_start()
    server.started()
    show_command(server, "started", "tool_dies", "make")
    os.kill(os.getpid(), number)


def leaves(server: FakeServer, _prompt: str) -> None:
    """The process ends in the middle of a turn as if all were well."""
    server.answer_start()
    server.started()
    os._exit(0)


def closes_output(server: FakeServer, _prompt: str) -> None:
    """Standard output is closed; the process lives on."""
    server.answer_start()
    server.started()
    os.close(1)
    server.pause(600)


def invalid_utf8(server: FakeServer, _prompt: str) -> None:
    """A line whose bytes are no text."""
    server.answer_start()
    server.started()
    os.write(1, b'{"method":"item/agentMessage/delta","params":{"delta":"\xff\xfe"}}\n')
    server.pause(30)


def part_of_a_line(server: FakeServer, _prompt: str) -> None:
    """The process ends in the middle of a message."""
    server.answer_start()
    server.started()
    show_output(server, "tool_part", "whole\n")
    server.write_raw('{"method":"item/commandExecution/outputDelta","params":{"delta":"ha')
    os._exit(1)


def as_told(server: FakeServer, prompt: str) -> None:
    """The prompt's first word is the mode of this turn, so that one backend plays many."""
    name, _, rest = prompt.partition(" ")
    script = {**SCRIPTS, **DRILLS}.get(name)
    if script is None or script is as_told:
        raise Refused(f"unknown mode {name}")
    script(server, rest)


def tell_secrets(server: FakeServer, _prompt: str) -> None:
    """Tell every text of the home's auth.json in every form, whole and cut at every place."""
    server.answer_start()
    server.started()
    told = [form for secret in _secrets(server.home) for form in _forms(secret)]
    for number, form in enumerate(told):
        item_id = f"tool_{number}"
        show_command(server, "started", item_id, f"curl -H 'key: {form}'")
        for piece in _pieces(form, number):
            show_output(server, item_id, piece)
            server.in_turn("item/agentMessage/delta", itemId=f"msg_{number}", delta=piece)
        show_command(server, "completed", item_id, f"echo {form}", aggregatedOutput=form)
        text = f"the key is {form}, and in JSON {json.dumps({'key': form})}"
        server.item("completed", type="agentMessage", id=f"msg_{number}", text=text)
    last = told[-1] if told else ""
    error = {
        "message": f"401 for {last}",
        "codexErrorInfo": "other",
        "additionalDetails": f"Authorization: Bearer {last}",
    }
    server.in_turn("error", error=error, willRetry=True)
    server.completed("failed", error)


def _secrets(home: str) -> Iterator[str]:
    texts = json.loads((Path(home) / "auth.json").read_text())
    yield from (value for value in texts.values() if isinstance(value, str))


def _pieces(form: str, number: int) -> list[str]:
    """A form as a stream cuts it: in two at one place after the other, now and then in crumbs."""
    if number % CRUMBS_EACH == 0:
        size = number // CRUMBS_EACH % 3 + 1
        return [form[at : at + size] for at in range(0, len(form), size)]
    cut = number % (len(form) - 1) + 1
    return [form[:cut], form[cut:]]


def _forms(secret: str) -> Iterator[str]:
    """A secret as programs write it: plain, base64 at each alignment, URL, JSON, hex."""
    raw = secret.encode()
    yield secret
    for before in (b"", b"u", b"u:"):
        yield base64.b64encode(before + raw).decode()
        yield base64.urlsafe_b64encode(before + raw + b":x").decode()
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)
    yield json.dumps(json.dumps(secret))
    yield raw.hex()


DRILLS: dict[str, Script] = {
    "segfault": partial(dies_by_signal, signal.SIGSEGV),
    "killed": partial(dies_by_signal, signal.SIGKILL),
    "leaves": leaves,
    "closes-output": closes_output,
    "invalid-utf8": invalid_utf8,
    "part-of-a-line": part_of_a_line,
    "as-told": as_told,
    "tell-secrets": tell_secrets,
}
