"""`treadle runner`: claims runs and drives an app-server for each."""

import argparse
import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from treadle.cli.ask_manager import add_manager_flags, complain, find_manager
from treadle.cli.exit_codes import FAILED, MISUSED, NOT_RUN, STOPPED, TRANSIENT, code_of_run
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.load import read_environment
from treadle.kit.tasks import TaskScope

PROG = "treadle runner"
LOST = frozenset({"lease-lost", "stale-epoch"})
GIVE_BACK_SECONDS = 15.0


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description=__doc__,
        epilog="exit codes of once: 0 completed; 1 the service failed; 2 misused; 3 failed for a "
        "reason that only the user can mend, or blocked; 4 cancelled; 5 the run was not ours to "
        "end; 6 failed for now, trying again can help; 130 stopped by a signal.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    once = commands.add_parser("once", help="work on one run")
    once.add_argument("--run-id", required=True)
    once.add_argument("--command-id", help="run this turn only")
    once.add_argument("--attempt-id")
    once.add_argument("--claim-retry-timeout-ms", type=int, default=60_000)
    once.add_argument("--claim-retry-interval-ms", type=int, default=1_000)
    once.add_argument("--one-shot", action="store_true", help="end the run with its first turn")
    serve = commands.add_parser("serve", help="take runs from the pool until stopped")
    serve.add_argument("--max-runs", type=int, default=1, help="how many runs at once")
    for sub in (once, serve):
        _add_shared(sub)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    add_manager_flags(parser)
    parser.add_argument("--runner-id")
    parser.add_argument("--backend-profile", metavar="NAME")
    parser.add_argument("--codex-command", metavar="PATH", help="default: our own app-server")
    parser.add_argument("--codex-arg", action="append", default=[], metavar="A")
    parser.add_argument("--codex-home", metavar="DIR")
    parser.add_argument("--lease-ms", type=int, default=15_000)
    parser.add_argument("--idle-timeout-ms", type=int, default=60_000)
    parser.add_argument("--poll-interval-ms", type=int, default=1_000)


def run(arguments: list[str]) -> int:
    """Work; the exit code follows the run's terminal status."""
    options = build_parser().parse_args(arguments)
    found = find_manager(PROG, options)
    if found is None:
        return MISUSED
    return run_loop(_work(options, *found))


def _work(options: argparse.Namespace, url: str, token: str | None) -> Coroutine[Any, Any, int]:
    from treadle.runner.options import RunnerOptions

    shared = RunnerOptions(
        manager_url=url,
        runner_id=options.runner_id,
        lease_ms=options.lease_ms,
        codex_command=options.codex_command,
        codex_args=options.codex_arg,
        codex_home=options.codex_home,
        backend_profile=options.backend_profile,
        env=read_environment().variables,
        idle_timeout_ms=options.idle_timeout_ms,
        poll_interval_ms=options.poll_interval_ms,
        token=token,
    )
    return _once(options, shared) if options.command == "once" else _serve(options, shared)


async def _once(options: argparse.Namespace, shared: Any) -> int:
    import dataclasses

    import msgspec

    from treadle.runner.manager_client import ManagerError, ManagerUnreachable
    from treadle.runner.run_once import run_once

    chosen = dataclasses.replace(
        shared,
        run_id=options.run_id,
        command_id=options.command_id,
        attempt_id=options.attempt_id,
        claim_retry_timeout_ms=options.claim_retry_timeout_ms,
        claim_retry_interval_ms=options.claim_retry_interval_ms,
        one_shot=options.one_shot,
    )
    signals = StopSignals()
    scope = TaskScope("runner command")
    working = scope.start(run_once(chosen), "run")
    stopped = scope.start(signals.first.wait(), "stop signal")
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return STOPPED
        result = working.result()
    except (ManagerError, ManagerUnreachable) as error:
        complain(PROG, str(error))
        return TRANSIENT if isinstance(error, ManagerUnreachable) else FAILED
    finally:
        # Cancelled, the attempt ends its agent and gives the run back.
        await scope.close(GIVE_BACK_SECONDS)
    print(json.dumps(msgspec.to_builtins(result)), flush=True)
    if result.stopped in LOST:
        return NOT_RUN
    return code_of_run(result.terminal_status, result.failure_kind)


async def _serve(options: argparse.Namespace, shared: Any) -> int:
    from treadle.runner.run_once import serve

    signals = StopSignals()
    print(f"treadle runner takes runs from {shared.manager_url} (Ctrl-C stops it)", flush=True)
    await serve(shared, signals.first, max_runs=options.max_runs)
    return 0
