"""`treadle runners`: who takes runs from a manager, letting one go, saying that one is gone."""

import argparse
import asyncio
from typing import Any

from treadle.cli.ask_manager import (
    Act,
    add_manager_flags,
    ask,
    complain,
    print_json,
    print_table,
    span,
)
from treadle.cli.exit_codes import TRANSIENT

PROG = "treadle runners"
LOOK_SECONDS = 1.0
GONE_MS = 60_000
"""A runner that was silent for so long is not there: heartbeats and claims come more often."""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description=__doc__,
        epilog="exit codes: 0 done; 1 the manager failed; 2 wrong request; 6 no answer, or runs "
        "are still held after --wait: try again.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="runners, those heard of last first")
    listing.add_argument("--limit", type=int, default=20)
    listing.add_argument("--all", action="store_true", help="those that are gone, too")
    drain = commands.add_parser(
        "drain", help="let a runner end its turns and take no more runs; it then ends itself"
    )
    drain.add_argument("runner_id", metavar="RUNNER")
    drain.add_argument("--undo", action="store_true", help="let it take runs again")
    drain.add_argument(
        "--wait", type=float, metavar="SECONDS", help="wait so long for its runs to be given back"
    )
    gone = commands.add_parser(
        "gone",
        help="say that a runner's process has ended, so that its runs wait for nobody",
        description="For who saw it end: systemd, a controller of pods, a person. A runner that "
        "lives all the same loses its runs and registers anew; nothing has two owners.",
    )
    gone.add_argument("runner_id", metavar="RUNNER")
    gone.add_argument(
        "--session",
        metavar="ID",
        help="which registration has ended, as `list --json` names it; default: the newest one. "
        "Name it where the runner may be back already under its name",
    )
    gone.add_argument("--reason", metavar="TEXT", help="how it ended, for the runs' logs")
    for sub in (listing, drain, gone):
        sub.add_argument("--json", action="store_true", help="for programs")
        add_manager_flags(sub)
    return parser


def run(arguments: list[str]) -> int:
    """Ask the manager; the exit code."""
    return ask(PROG, build_parser().parse_args(arguments), _ACTS)


async def _list(client: Any, options: argparse.Namespace) -> int:
    page = await client.list_runners(limit=options.limit)
    runners = [each for each in page.items if options.all or _state(each) != "gone"]
    if options.json:
        print_json(runners)
        return 0
    rows = [
        (
            each.id,
            _state(each),
            each.held_runs,
            each.backend_profile or "any",
            each.placement,
            f"{span(each.silent_ms)} ago",
            each.source_commit,
        )
        for each in runners
    ]
    print_table(["runner", "state", "runs", "profile", "placement", "heard of", "commit"], rows)
    return 0


async def _drain(client: Any, options: argparse.Namespace) -> int:
    runner = await client.drain_runner(options.runner_id, draining=not options.undo)
    if options.wait is not None and not options.undo:
        try:
            async with asyncio.timeout(options.wait):
                while runner.held_runs:
                    await asyncio.sleep(LOOK_SECONDS)
                    runner = await client.drain_runner(options.runner_id)
        except TimeoutError:
            complain(
                PROG, f"{runner.id} still holds {runner.held_runs} runs; interrupt their turns"
            )
            return TRANSIENT
    if options.json:
        print_json(runner)
    else:
        what = "takes runs again" if options.undo else "is drained"
        print(f"{runner.id} {what}; it holds {runner.held_runs} runs", flush=True)
    return 0


async def _gone(client: Any, options: argparse.Namespace) -> int:
    session_id = options.session
    if session_id is None:
        session_id = (await client.get_runner(options.runner_id)).session_id
    answer = await client.report_gone(options.runner_id, session_id, options.reason)
    if options.json:
        print_json(answer)
        return 0
    runs = len(answer.lapsed_runs)
    print(f"{answer.runner.id} is gone; {runs} runs that it held are free for others", flush=True)
    if answer.runner.session_id != session_id:
        print(f"(a newer registration of it, {answer.runner.session_id}, goes on)", flush=True)
    return 0


def _state(runner: Any) -> str:
    if runner.gone_at is not None:
        return "gone"
    if runner.silent_ms >= GONE_MS and not runner.held_runs:
        return "gone"
    return "draining" if runner.draining else "busy" if runner.held_runs else "idle"


_ACTS: dict[str, Act] = {"list": _list, "drain": _drain, "gone": _gone}
