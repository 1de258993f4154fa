"""The terminal interface of Codex as a remote client of our app-server, looked at on its screen."""

# pyright: basic, reportMissingImports=false

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from peer_bench import NPM, TREADLE, Bench
from terminal import MARK, Terminal

from support.fake_provider import (
    Recorded,
    Step,
    calls,
    completed,
    created,
    function_call,
    message,
    reply,
)

CODEX = NPM / "node_modules/.bin/codex"
EMPTY_PROMPT = "Ask Codex to do anything"
WORKING = "esc to interrupt"

pytestmark = pytest.mark.skipif(
    not CODEX.exists() or shutil.which("tmux") is None,
    reason="node, the package or tmux is missing",
)


def title(request: Recorded) -> Step | None:
    """The interface has each task named by a thread beside it, which has no tools."""
    return None if request.body.get("tools") else reply('{"title": "A small task"}')


class Seat:
    """A server, a terminal at it, and the model behind."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.provider = bench.provider
        self.provider.aside = title
        self.screen = Terminal(folder)
        self._folder = folder
        self.made = bench.work / "made"

    def start(self) -> None:
        config = self.bench.home / "config.toml"
        text = config.read_text().replace('"never"', '"on-request"')
        text = text.replace('"danger-full-access"', '"read-only"')
        config.write_text(f'{text}\n[projects."{self.bench.work}"]\ntrust_level = "trusted"\n')
        self.server = subprocess.Popen(
            [str(TREADLE), "app-server", "--listen", "ws://127.0.0.1:0"],
            cwd=self.bench.work,
            env={**self.bench.environment, "PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.server.stderr is not None
        self._url = ""
        while "listening on: " not in self._url:
            line = self.server.stderr.readline()
            assert line, "the server has ended"
            self._url = line.strip()
        self._url = self._url.split("listening on: ")[1]

    def stop(self) -> None:
        self.screen.end()
        self.server.terminate()
        try:
            # It waits for running turns, of which a test leaves none.
            assert self.server.wait(10.0) == 0
        finally:
            self.server.kill()
            self.server.wait()
            assert self.server.stderr is not None
            self.server.stderr.close()

    def open(self, *arguments: str) -> str:
        """Start the interface with a home of its own and wait for its prompt; the screen."""
        home = self._folder / "terminal"
        home.mkdir(exist_ok=True)
        command = [str(CODEX), "--remote", self._url, *arguments]
        environment = {"CODEX_HOME": str(home), "HOME": str(home), "TERM": "xterm-256color"}
        self.screen.run(command, self.bench.work, environment)
        return self.screen.until(EMPTY_PROMPT, "mock-model")


@pytest.fixture
def seat(bench: Bench, tmp_path: Path) -> Iterator[Seat]:
    seat = Seat(bench, tmp_path)
    seat.start()
    try:
        yield seat
    finally:
        seat.stop()


def test_a_prompt_is_answered_while_it_streams_and_the_task_gets_a_title(seat: Seat) -> None:
    later = asyncio.Event()
    parts = [*message("Early words.", "m1"), later, *message("Late words.", "m2")]
    seat.provider.script(Step([created(), *parts, completed()]))

    assert str(seat.bench.work) in seat.open()
    seat.screen.enter("tell me slowly")
    screen = seat.screen.until(f"{MARK} tell me slowly", "• Early words.")
    assert "Late words." not in screen
    seat.bench.call(later.set)

    screen = seat.screen.until("• Late words.", "A small task", gone=(WORKING,))
    assert "not supported" not in screen


def test_a_command_runs_once_it_is_approved_and_not_when_it_is_refused(seat: Seat) -> None:
    def ask(file: str) -> Step:
        arguments = {"cmd": f"echo x > {file}", "login": False, "justification": f"for {file}"}
        arguments["sandbox_permissions"] = "require_escalated"
        return calls(function_call("exec_command", arguments, f"call-{file}"))

    seat.provider.script(ask("made"), reply("It is made."), ask("other"))
    seat.open()

    seat.screen.enter("make it")
    seat.screen.until("for made", "echo x > made", "Yes, proceed")
    assert not seat.made.exists()
    seat.screen.keys("y")
    seat.screen.until("• It is made.", gone=("Yes, proceed", WORKING))
    assert seat.made.read_text() == "x\n"

    seat.screen.enter("make another")
    seat.screen.until("for other", "Yes, proceed")
    seat.screen.keys("Escape")
    seat.screen.until(EMPTY_PROMPT, gone=("Yes, proceed", WORKING))
    assert not (seat.bench.work / "other").exists()


def test_a_turn_is_interrupted_and_the_next_one_runs(seat: Seat) -> None:
    seat.provider.script(Step([created()], hang=True), reply("Here I am."))
    seat.open()

    seat.screen.enter("take your time")
    seat.screen.until(WORKING)
    seat.bench.wait(seat.provider.wait_requests(1))
    seat.screen.keys("Escape")
    seat.screen.until("interrupted", gone=(WORKING,))

    seat.screen.enter("are you there")
    seat.screen.until("• Here I am.", gone=(WORKING,))
    assert "take your time" in seat.bench.last_input()


def test_words_during_a_turn_steer_it(seat: Seat) -> None:
    seat.provider.script(Step([created()], hang=True), reply("Both parts."))
    seat.open()

    seat.screen.enter("begin this")
    seat.screen.until(WORKING)
    seat.bench.wait(seat.provider.wait_requests(1))
    seat.screen.enter("and also that")

    seat.screen.until("• Both parts.", gone=(WORKING,))
    assert "and also that" in seat.bench.last_input()


def test_it_quits_and_another_terminal_resumes_the_task_from_the_list(seat: Seat) -> None:
    seat.provider.script(reply("I shall."), reply("Heddle."))
    seat.open()
    seat.screen.enter("the word is heddle")
    seat.screen.until("• I shall.", "A small task", gone=(WORKING,))
    seat.screen.enter("/quit")
    assert seat.screen.exit_code() == 0

    seat.open()
    seat.screen.enter("/resume")
    seat.screen.until("Resume a previous session", "A small task")
    seat.screen.keys("Enter")
    seat.screen.until(f"{MARK} the word is heddle", "• I shall.", EMPTY_PROMPT)
    seat.screen.enter("which word")
    seat.screen.until("• Heddle.", gone=(WORKING,))
    assert "the word is heddle" in seat.bench.last_input()
