"""Threads that pass between Treadle and two versions of Codex's own server, in both directions.

The binaries are the judge of what is in our files, and we of what is in theirs: the next request
to the model must show the whole past, whoever wrote it.
"""

# pyright: basic, reportMissingImports=false

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peer_bench import NPM, ROOT, TREADLE, WAIT_SECONDS, Bench

from support.fake_provider import Step, calls, function_call, http_error, reply

_VENDOR = "vendor/x86_64-unknown-linux-musl"
PROGRAMS = {
    "0.129.0": NPM / f"node_modules/codex-0-129-linux-x64/{_VENDOR}/codex/codex",
    "0.169.0": NPM / f"node_modules/@openai/codex-linux-x64/{_VENDOR}/bin/codex",
}
SHELLS = ("exec_command", "shell_command", "shell")
VERSIONS = pytest.mark.parametrize("version", list(PROGRAMS))

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in PROGRAMS.values()),
    reason="the packages of npm are missing, or there are none for this machine",
)


class Server:
    """An app-server over stdio, asked one thing after another."""

    def __init__(self, program: Path, bench: Bench) -> None:
        self._process = subprocess.Popen(
            [str(program), "app-server"],
            cwd=bench.work,
            env={**bench.environment, "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ids = 0
        info = {"name": "peers", "version": "1"}
        self.ask("initialize", clientInfo=info, capabilities={"experimentalApi": True})
        self._send({"method": "initialized"})

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _next(self) -> dict[str, Any]:
        return json.loads(self._lines.get(timeout=WAIT_SECONDS))

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a request; an error fails the test."""
        self._ids += 1
        self._send({"id": self._ids, "method": method, "params": params})
        while (message := self._next()).get("id") != self._ids or "method" in message:
            pass
        assert "result" in message, message
        return message["result"]

    def until(self, method: str) -> Any:
        while (message := self._next()).get("method") != method:
            pass
        return message["params"]

    def turn(self, thread_id: str, text: str) -> dict[str, Any]:
        """Run a turn to its end; the finished turn."""
        words = [{"type": "text", "text": text, "text_elements": []}]
        self.ask("turn/start", threadId=thread_id, input=words)
        return self.until("turn/completed")["turn"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(WAIT_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(WAIT_SECONDS)
            assert self._process.stdout is not None
            self._process.stdout.close()


@contextmanager
def serving(who: str, bench: Bench) -> Iterator[Server]:
    """A server of Treadle or of one version of Codex, on the bench's home."""
    server = Server(TREADLE if who == "treadle" else PROGRAMS[who], bench)
    try:
        yield server
    finally:
        server.close()


def shell_call(bench: Bench, words: str, call_id: str) -> Step:
    """A call of whichever shell the server has offered."""
    tools = {tool.get("name") for tool in bench.provider.requests[-1].body["tools"]}
    name = next(each for each in SHELLS if each in tools)
    by_name = {
        "exec_command": {"cmd": f"echo {words}"},
        "shell_command": {"command": f"echo {words}"},
        "shell": {"command": ["bash", "-lc", f"echo {words}"]},
    }
    return calls(function_call(name, by_name[name], call_id))


def past(bench: Bench) -> tuple[str, list[str], list[str]]:
    """What the model was sent last: all of it as text, its calls and its outputs by id."""
    items = bench.provider.requests[-1].body["input"]
    made = [item["call_id"] for item in items if item["type"] == "function_call"]
    answered = [item["call_id"] for item in items if item["type"] == "function_call_output"]
    return json.dumps(items), made, answered


def in_order(text: str, *words: str) -> bool:
    places = [text.find(word) for word in words]
    return -1 not in places and places == sorted(places)


def make_thread(server: Server, bench: Bench, words: str = "warp") -> str:
    """A thread with an answer and a command."""
    thread_id = server.ask("thread/start", cwd=str(bench.work))["thread"]["id"]
    bench.provider.script(reply(f"first {words} said"))
    assert server.turn(thread_id, f"first {words} asked")["status"] == "completed"
    bench.provider.script(shell_call(bench, f"{words}-output", f"call-{words}"))
    bench.provider.script(reply(f"second {words} said"))
    assert server.turn(thread_id, f"second {words} asked")["status"] == "completed"
    return thread_id


def told(words: str) -> list[str]:
    return [
        f"first {words} asked",
        f"first {words} said",
        f"second {words} asked",
        f"{words}-output",
        f"second {words} said",
    ]


def turns_of(server: Server, thread_id: str) -> list[dict[str, Any]]:
    return server.ask("thread/read", threadId=thread_id, includeTurns=True)["thread"]["turns"]


def facts(turns: list[dict[str, Any]]) -> list[Any]:
    return [
        (turn["id"], turn["status"], [(item["type"], item["id"]) for item in turn["items"]])
        for turn in turns
    ]


@VERSIONS
def test_a_thread_made_here_goes_on_there_and_comes_back(bench: Bench, version: str) -> None:
    with serving("treadle", bench) as ours:
        thread_id = make_thread(ours, bench)
        bench.provider.script(http_error(400, "no such wheel"))
        assert ours.turn(thread_id, "third asked")["status"] == "failed"
        before = turns_of(ours, thread_id)
    with serving(version, bench) as theirs:
        theirs.ask("thread/resume", threadId=thread_id)
        bench.provider.script(reply("theirs said"))
        assert theirs.turn(thread_id, "theirs asked")["status"] == "completed"
        text, made, answered = past(bench)
        assert in_order(text, *told("warp"), "third asked", "theirs asked")
        assert made == answered == ["call-warp"]
    with serving("treadle", bench) as ours:
        after = turns_of(ours, thread_id)
        assert facts(after[: len(before)]) == facts(before)
        assert "no such wheel" in after[2]["error"]["message"]
        kinds = [item["type"] for item in after[1]["items"]]
        assert kinds == ["userMessage", "commandExecution", "agentMessage"]
        assert len(after) == len(before) + 1
        ours.ask("thread/resume", threadId=thread_id)
        bench.provider.script(reply("ours said"))
        assert ours.turn(thread_id, "ours asked")["status"] == "completed"
        text, made, answered = past(bench)
        assert in_order(text, *told("warp"), "theirs asked", "theirs said", "ours asked")
        assert made == answered == ["call-warp"]


@VERSIONS
def test_a_thread_made_there_goes_on_here_and_comes_back(bench: Bench, version: str) -> None:
    with serving(version, bench) as theirs:
        thread_id = make_thread(theirs, bench)
    with serving("treadle", bench) as ours:
        listed = ours.ask("thread/list", modelProviders=[])["data"]
        assert [(each["id"], each["preview"]) for each in listed] == [
            (thread_id, "first warp asked")
        ]
        kinds = [[item["type"] for item in turn["items"]] for turn in turns_of(ours, thread_id)]
        assert [each[0] for each in kinds] == ["userMessage", "userMessage"]
        assert [each[-1] for each in kinds] == ["agentMessage", "agentMessage"]
        if version == "0.169.0":  # the older one keeps no commands for show
            assert "commandExecution" in kinds[1]
        ours.ask("thread/resume", threadId=thread_id)
        bench.provider.script(reply("ours said"))
        assert ours.turn(thread_id, "ours asked")["status"] == "completed"
        text, made, answered = past(bench)
        assert in_order(text, *told("warp"), "ours asked")
        assert made == answered == ["call-warp"]
    with serving(version, bench) as theirs:
        theirs.ask("thread/resume", threadId=thread_id)
        theirs.turn(thread_id, "theirs asked")
        text, made, answered = past(bench)
        assert in_order(text, *told("warp"), "ours asked", "ours said", "theirs asked")
        assert made == answered == ["call-warp"]


@VERSIONS
def test_forks_of_theirs_know_here_what_they_build_on(bench: Bench, version: str) -> None:
    with serving(version, bench) as theirs:
        thread_id = make_thread(theirs, bench)
        fork_id = theirs.ask("thread/fork", threadId=thread_id)["thread"]["id"]
        theirs.turn(fork_id, "fork asked")
    if version == "0.169.0":
        assert any('"history_base"' in path.read_text() for path in rollouts(bench))
    with serving("treadle", bench) as ours:
        assert len(turns_of(ours, fork_id)) == 3
        assert len(turns_of(ours, thread_id)) == 2
        ours.ask("thread/resume", threadId=fork_id)
        ours.turn(fork_id, "ours asked")
        assert in_order(past(bench)[0], *told("warp"), "fork asked", "ours asked")


def test_what_they_reverted_stays_forgotten_here(bench: Bench) -> None:
    with serving("0.169.0", bench) as theirs:
        thread_id = make_thread(theirs, bench)
        second = theirs.ask("thread/turns/list", threadId=thread_id)["data"][0]["id"]
        theirs.ask("thread/revert", threadId=thread_id, beforeTurnId=second)
        theirs.turn(thread_id, "after it")
    with serving("treadle", bench) as ours:
        assert len(turns_of(ours, thread_id)) == 2
        ours.ask("thread/resume", threadId=thread_id)
        ours.turn(thread_id, "ours asked")
        text = past(bench)[0]
        assert in_order(text, "first warp asked", "first warp said", "after it", "ours asked")
        assert "second warp" not in text


@VERSIONS
def test_what_we_took_back_stays_forgotten_there(bench: Bench, version: str) -> None:
    with serving("treadle", bench) as ours:
        thread_id = make_thread(ours, bench)
        ours.ask("thread/rollback", threadId=thread_id, numTurns=1)
        ours.turn(thread_id, "after it")
    with serving(version, bench) as theirs:
        theirs.ask("thread/resume", threadId=thread_id)
        theirs.turn(thread_id, "theirs asked")
        text = past(bench)[0]
        assert in_order(text, "first warp asked", "first warp said", "after it", "theirs asked")
        assert "second warp" not in text


@pytest.mark.parametrize("maker", ["treadle", "0.129.0", "0.169.0"])
def test_compressed_rollouts_open_here_whoever_wrote_them(bench: Bench, maker: str) -> None:
    with serving(maker, bench) as first:
        thread_id = make_thread(first, bench)
    (path,) = rollouts(bench)
    compress(path)
    with serving("treadle", bench) as ours:
        assert len(turns_of(ours, thread_id)) == 2
        ours.ask("thread/resume", threadId=thread_id)
        ours.turn(thread_id, "ours asked")
        assert in_order(past(bench)[0], *told("warp"), "ours asked")


def rollouts(bench: Bench) -> list[Path]:
    return sorted(bench.home.glob("sessions/**/rollout-*.jsonl"))


def compress(path: Path) -> None:
    """With the library of Treadle's own environment; the peers' has none."""
    program = (
        "import sys, pathlib, zstandard; p = pathlib.Path(sys.argv[1]);"
        "pathlib.Path(f'{p}.zst').write_bytes(zstandard.compress(p.read_bytes())); p.unlink()"
    )
    subprocess.run([str(ROOT / ".venv/bin/python"), "-c", program, str(path)], check=True)
