"""`treadle db`: bring a manager's database up to date, prove what is in it."""

import argparse
import json
import sys
from pathlib import Path

from treadle.cli.exit_codes import DIFFERS
from treadle.cli.manager import DATABASE_HELP, default_data
from treadle.cli.wiring.loop import run_loop

UNUSABLE = 1
"""Exit code when the database cannot be used, or is not up to date for `verify`."""
PAGE = 200


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle db",
        description=__doc__,
        epilog="exit codes: 0 done; 1 the database cannot be used, or lacks migrations; "
        "7 verify found differences.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    migrate = commands.add_parser("migrate", help="make the database, or apply what it lacks")
    verify = commands.add_parser("verify", help="check migrations and fold every log again")
    for sub in (migrate, verify):
        sub.add_argument("--database", metavar="URL", help=DATABASE_HELP)
        sub.add_argument("--data", type=Path, default=None, metavar="DIR", help="data folder")
        sub.add_argument("--json", action="store_true", help="for programs")
    return parser


def run(arguments: list[str]) -> int:
    """Work on the database; the exit code."""
    options = build_parser().parse_args(arguments)
    return run_loop(_work(options, (options.data or default_data()).absolute()))


async def _work(options: argparse.Namespace, folder: Path) -> int:
    from treadle.control.faults import ControlFault

    try:
        if options.command == "migrate":
            return await _migrate(options, folder)
        return await _verify(options, folder)
    except ControlFault as error:
        print(f"treadle db: {error.detail}", file=sys.stderr)
        return UNUSABLE


async def _migrate(options: argparse.Namespace, folder: Path) -> int:
    from treadle.control.db.open import open_database
    from treadle.control.events import Bells
    from treadle.kit.clock import SystemClock

    repository = await open_database(options.database, folder, SystemClock(), Bells())
    await repository.close()
    if options.json:
        print(json.dumps({"schemaVersion": repository.schema_version}), flush=True)
    else:
        print(f"the database has schema {repository.schema_version}", flush=True)
    return 0


async def _verify(options: argparse.Namespace, folder: Path) -> int:
    from treadle.control.db.open import find_missing_migrations, open_database
    from treadle.control.db.repository import Repository, RunQuery
    from treadle.control.events import Bells
    from treadle.kit.clock import SystemClock

    missing = await find_missing_migrations(options.database, folder)
    if missing:
        print(
            f"treadle db: the database lacks {', '.join(missing)}; run `treadle db migrate`, or "
            "start a manager",
            file=sys.stderr,
        )
        return UNUSABLE

    async def check(repository: Repository) -> tuple[int, int]:
        count = differing = 0
        cursor: str | None = None
        while runs := await repository.list_runs(RunQuery(limit=PAGE, cursor=cursor)):
            cursor = runs[-1].id
            for found in runs:
                findings = await repository.verify_run(found.id)
                count, differing = count + 1, differing + bool(findings)
                if options.json and findings:
                    print(json.dumps({"runId": found.id, "findings": findings}), flush=True)
                for finding in [] if options.json else findings:
                    print(f"{found.id}: {finding}", flush=True)
        return count, differing

    repository = await open_database(options.database, folder, SystemClock(), Bells())
    try:
        count, differing = await check(repository)
    finally:
        await repository.close()
    if options.json:
        print(json.dumps({"runs": count, "differing": differing}), flush=True)
    else:
        print(f"{count} runs verified, {differing} differ", flush=True)
    return DIFFERS if differing else 0
