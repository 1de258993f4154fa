"""The options of `treadle exec`: what may be said, and what it asks of a thread.

Names and meanings are those of `codex exec` (0.129.0, 0.169.0) where it has them. Knows no engine.
"""

import argparse
from pathlib import Path
from typing import Any

from treadle.cli.config_flags import add_config_flags

SANDBOXES = ("read-only", "workspace-write", "danger-full-access")

_EPILOG = """\
treadle exec [OPTION ...] resume [ID | NAME | --last] [PROMPT] goes on with a stored thread,
treadle exec [OPTION ...] fork ID [PROMPT] with a copy of it.

PROMPT is read from standard input when it is - or left out; with a PROMPT standard input is
never touched.

exit codes: 0 completed; 1 the service failed, or the turn could not begin; 2 misused;
3 failed for a reason that only the user can mend (key, context, budget); 4 past --deadline;
5 past --idle-deadline; 6 failed for now, trying again can help; 130 interrupted.
"""


class Misused(Exception):
    """The command line asks for something that cannot be; the text says what to write instead."""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle exec",
        description="Run one turn without a person and print the answer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="PROMPT", help="what to do; - reads it")
    _add_thread_options(parser)
    _add_output_options(parser)
    for name in ("--deadline", "--idle-deadline"):
        what = "all of it" if name == "--deadline" else "a silence of the agent"
        parser.add_argument(name, type=_seconds, metavar="SECONDS", help=f"longest time for {what}")
    parser.add_argument(
        "--record-cassette", type=Path, metavar="FILE", help="record the exchanges with the model"
    )
    add_config_flags(parser)
    return parser


def _add_thread_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-C", "--cd", type=Path, default=Path(), metavar="DIR", help="work there")
    parser.add_argument("-m", "--model")
    parser.add_argument("-s", "--sandbox", choices=SANDBOXES)
    parser.add_argument("--full-auto", action="store_true", help="the same as -s workspace-write")
    parser.add_argument(
        "--dangerously-bypass-approvals-and-sandbox",
        "--yolo",
        dest="bypass",
        action="store_true",
        help="no sandbox at all; only where something else fences the process",
    )
    parser.add_argument(
        "--add-dir",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="writable beside the working folder (repeatable)",
    )
    parser.add_argument(
        "-i",
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="an image for the prompt (repeatable, or separated by commas)",
    )
    parser.add_argument("--ephemeral", action="store_true", help="store nothing")
    parser.add_argument("--thread-source", metavar="SOURCE", help="note why the thread exists")
    parser.add_argument(
        "--skip-git-repo-check",
        action="store_true",
        help="work also in a folder that is neither a Git repository nor trusted",
    )
    parser.add_argument("--last", action="store_true", help="resume the newest thread of DIR")
    parser.add_argument("--all", action="store_true", help="with --last: of any folder")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        "--experimental-json",
        action="store_true",
        help="print events as JSON, one a line",
    )
    parser.add_argument(
        "-o",
        "--output-last-message",
        type=Path,
        metavar="FILE",
        help="keep the agent's last words there, also while it works",
    )
    parser.add_argument(
        "--output-schema", type=Path, metavar="FILE", help="JSON Schema that the answer must fit"
    )
    parser.add_argument(
        "--color",
        choices=("always", "never", "auto"),
        help="for callers of codex exec; nothing here is coloured",
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, with `action` (start, resume or fork), `thread` and `prompt` made of the words.

    Exits with code 2, like argparse, when they make no sense together.
    """
    parser = build_parser()
    options = parser.parse_intermixed_args(arguments)
    try:
        _read_words(options)
    except Misused as error:
        parser.error(str(error))
    return options


def _read_words(options: argparse.Namespace) -> None:
    words: list[str] = options.words
    options.action, options.thread = "start", None
    if words and words[0] in ("resume", "fork"):
        options.action = words.pop(0)
        if not options.last:
            if not words:
                raise Misused(f"{options.action} which thread? give its id, or --last")
            options.thread = words.pop(0)
    if len(words) > 1:
        raise Misused("one PROMPT is enough; put it in quotes if it has spaces")
    options.prompt = words[0] if words else None
    if options.last and options.action == "start":
        raise Misused("--last goes with resume or fork")
    if options.ephemeral and options.action == "resume":
        raise Misused("--ephemeral does not go with resume: that thread is stored already")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time in seconds")
    return value


def sandbox_mode(options: argparse.Namespace) -> str | None:
    """The sandbox that the flags ask for; None leaves it to the configuration."""
    if options.bypass:
        return "danger-full-access"
    return options.sandbox or ("workspace-write" if options.full_auto else None)


def thread_overrides(options: argparse.Namespace, cwd: Path) -> dict[str, Any]:
    """What the flags set for the thread, as parameters of `thread/start` and its kin."""
    overrides: dict[str, Any] = {"cwd": str(cwd)}
    if options.model:
        overrides["model"] = options.model
    if sandbox := sandbox_mode(options):
        overrides["sandbox"] = sandbox
    if not any(each.partition("=")[0].strip() == "approval_policy" for each in options.config):
        # Nobody is there to be asked.
        overrides["approvalPolicy"] = "never"
    return overrides
