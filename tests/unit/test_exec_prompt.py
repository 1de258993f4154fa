"""Where the prompt of `treadle exec` comes from, and what is no source of one."""

import io
import sys

import pytest

from treadle.cli.exec_options import Misused, parse, thread_overrides
from treadle.cli.exec_prompt import check_source


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("prompt", [None, "-"])
def test_a_closed_standard_input_is_no_source(prompt: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Misused, match="closed"):
        check_source(prompt)
    check_source("do it")


def test_nobody_is_made_to_type_without_having_asked_for_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(Misused, match="PROMPT"):
        check_source(None)
    check_source("-")


@pytest.mark.parametrize(
    ("words", "action", "thread", "prompt"),
    [
        (["do it"], "start", None, "do it"),
        ([], "start", None, None),
        (["resume", "ID"], "resume", "ID", None),
        (["--json", "resume", "ID", "-m", "x", "go on"], "resume", "ID", "go on"),
        (["resume", "--last", "go on"], "resume", None, "go on"),
        (["fork", "ID", "-"], "fork", "ID", "-"),
        (["-i", "a.png", "look"], "start", None, "look"),
    ],
)
def test_words_say_what_to_do_with_which_thread(
    words: list[str], action: str, thread: str | None, prompt: str | None
):
    options = parse(words)
    assert (options.action, options.thread, options.prompt) == (action, thread, prompt)


@pytest.mark.parametrize(
    "words",
    [
        ["a", "b"],
        ["resume"],
        ["--last", "go"],
        ["resume", "ID", "--ephemeral"],
        ["--deadline", "0", "go"],
        ["--deadline", "inf", "go"],
    ],
)
def test_what_makes_no_sense_together_is_misuse(words: list[str]):
    with pytest.raises(SystemExit, match="2"):
        parse(words)


def test_flags_for_sandboxes_and_approvals(tmp_path):
    def overrides(*words: str) -> dict[str, str]:
        return thread_overrides(parse([*words, "go"]), tmp_path)

    assert overrides()["approvalPolicy"] == "never"
    assert "sandbox" not in overrides()
    assert overrides("--full-auto")["sandbox"] == "workspace-write"
    assert overrides("--full-auto", "-s", "read-only")["sandbox"] == "read-only"
    assert overrides("--yolo")["sandbox"] == "danger-full-access"
    assert "approvalPolicy" not in overrides("-c", 'approval_policy="on-request"')
