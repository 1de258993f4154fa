"""`treadle manager`: serves the control plane's HTTP API."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.cli.manager_files import ManagerFiles
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.load import read_environment
from treadle.kit.tasks import TaskScope

if TYPE_CHECKING:
    from treadle.control.placement.placer import MakePlacer

DEFAULT_PORT = 7717
DATABASE_HELP = (
    "sqlite:///PATH (one manager; a relative PATH is below the data folder) or "
    "postgresql://USER@HOST:PORT/DATABASE (any number of managers; the password is better in "
    "PGPASSWORD or ~/.pgpass); default: manager.db in the data folder"
)


def default_data() -> Path:
    """The data folder of a manager that is not told one: below the home folder."""
    return read_environment().home_folder() / "manager"


def positive_days(text: str) -> float:
    """A number of days above zero; raises ValueError otherwise."""
    days = float(text)
    if not 0 < days < 36_500:
        raise ValueError(text)
    return days


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="treadle manager", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free one")
    parser.add_argument("--database", metavar="URL", help=DATABASE_HELP)
    parser.add_argument("--data", type=Path, default=None, metavar="DIR", help="data folder")
    parser.add_argument(
        "--auth",
        choices=("none", "token"),
        default="token",
        help="token (default): a generated token in the data folder, which the command line finds "
        "by itself; none: this machine only",
    )
    for name, what in (("events", "events of a run"), ("runs", "runs with all that is theirs")):
        parser.add_argument(
            f"--keep-{name}",
            type=positive_days,
            metavar="DAYS",
            help=f"drop {what} this long after their end; default: never",
        )
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=0.0,
        metavar="S",
        help="after a stop signal go on serving so long, with readiness false (default: 0)",
    )
    parser.add_argument(
        "--kubernetes",
        type=Path,
        metavar="FILE",
        help="also place runners as Kubernetes Jobs, as this TOML file says; "
        "docs/kubernetes.md describes it",
    )
    parser.add_argument("--json", action="store_true", help="print the address as JSON")
    return parser


def run(arguments: list[str]) -> int:
    """Serve until a signal comes; the exit code."""
    return run_loop(_serve(build_parser().parse_args(arguments)))


async def _serve(options: argparse.Namespace) -> int:
    from treadle.control.controller import Retention
    from treadle.control.faults import DatabaseUnusable
    from treadle.control.http.server import (
        ManagerOptions,
        ManagerStartError,
        serve,
    )

    placers: list[MakePlacer] = []
    if options.kubernetes is not None:
        from treadle.cli.wiring.kubernetes import NoKubernetes, kubernetes_placer

        try:
            placers.append(kubernetes_placer(options.kubernetes, read_environment().variables))
        except NoKubernetes as error:
            print(f"treadle manager: {error}", file=sys.stderr)
            return 2
    signals = StopSignals()
    files = ManagerFiles((options.data or default_data()).absolute())
    try:
        token = files.ensure_token() if options.auth == "token" else None
        manager = await serve(
            ManagerOptions(
                host=options.host,
                port=options.port,
                data_folder=files.folder,
                database_url=options.database,
                auth=options.auth,
                token=token,
                drain_seconds=options.drain_seconds,
                retention=Retention(options.keep_events, options.keep_runs),
                placers=placers,
            )
        )
        files.write_address(manager.address)
    except (ManagerStartError, DatabaseUnusable) as error:
        print(f"treadle manager: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"treadle manager: cannot write to the data folder {files.folder}: {error.strerror}; "
            "choose another with --data",
            file=sys.stderr,
        )
        return 1
    if options.json:
        print(json.dumps({"listening": manager.address}), flush=True)
    else:
        print(f"treadle manager listening on {manager.address} (Ctrl-C stops it)", flush=True)
    scope = TaskScope("manager command")
    closed = scope.start(manager.wait_closed(), "closed")
    stopped = scope.start(signals.first.wait(), "stop signal")
    await asyncio.wait({closed, stopped}, return_when=asyncio.FIRST_COMPLETED)
    files.forget_address()
    await manager.stop()
    await scope.close()
    return 0
