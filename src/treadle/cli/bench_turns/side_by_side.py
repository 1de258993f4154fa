"""What benchmarks of app-servers share: whom to measure, and figures of several side by side."""

import argparse
import json
import shlex
import sys
from collections.abc import Coroutine, Iterable
from typing import Any

from treadle.cli.progress import complain
from treadle.cli.wiring.loop import run_loop
from treadle.kit.processes import SpawnError

Figures = dict[str, float]


def add_flags(parser: argparse.ArgumentParser, parts: Iterable[str]) -> None:
    """Other servers, one of `parts` alone, and the form of the report."""
    parser.add_argument(
        "--against",
        metavar="COMMAND",
        action="append",
        default=[],
        help="measure another app-server too, such as 'codex app-server' (repeatable)",
    )
    parser.add_argument("--only", choices=list(parts), action="append", help="only this part")
    parser.add_argument("--json", action="store_true", help="for programs")


def commands_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """The servers to measure by name, our own first."""
    own = [sys.executable, "-m", "treadle.cli.main", "app-server"]
    return {"treadle": own, **{text: shlex.split(text) for text in options.against}}


def run_measurement(measuring: Coroutine[Any, Any, int]) -> int:
    """Measure; 0 when all could be measured, 1 when a server could not be started."""
    try:
        return run_loop(measuring)
    except SpawnError as error:
        complain(f"{error}; give the program of --against by its full path")
        return 1


def report(found: dict[str, Figures], *, as_json: bool) -> None:
    """Print the figures: a row each, a column a server, or all as JSON."""
    if as_json:
        print(json.dumps(found, indent=1))
        return
    labels = dict.fromkeys(label for figures in found.values() for label in figures)
    print(f"{'':46}" + "".join(f"{name[-24:]:>26}" for name in found))
    for label in labels:
        row = "".join(
            f"{figures[label]:26.2f}" if label in figures else f"{'-':>26}"
            for figures in found.values()
        )
        print(f"{label:46}{row}")
