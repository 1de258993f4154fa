"""`treadle runner`: claims runs and drives an app-server for each."""

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from treadle.cli.ask_manager import add_manager_flags, complain, find_manager
from treadle.cli.exit_codes import FAILED, MISUSED, NOT_RUN, STOPPED, TRANSIENT, code_of_run
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.load import read_environment
from treadle.kit.mint import new_id
from treadle.kit.tasks import TaskScope

if TYPE_CHECKING:
    from treadle.runner.manager_types import Registration
    from treadle.runner.supervisor import End

PROG = "treadle runner"
LOST = frozenset({"lease-lost", "stale-epoch"})
GIVE_BACK_SECONDS = 15.0
REPORT_SECONDS = 10.0


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
    serve.add_argument(
        "--unsupervised",
        action="store_true",
        help="without a parent process that reports a crash at once and starts anew: for a "
        "supervisor of your own, which says `treadle runners gone`",
    )
    for sub in (once, serve):
        _add_shared(sub)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    add_manager_flags(parser)
    parser.add_argument("--runner-id")
    parser.add_argument(
        "--placement",
        choices=("process", "kubernetes-job"),
        default="process",
        help="how this runner was started, for the list of runners",
    )
    parser.add_argument("--backend-profile", metavar="NAME")
    parser.add_argument("--codex-command", metavar="PATH", help="default: our own app-server")
    parser.add_argument("--codex-arg", action="append", default=[], metavar="A")
    parser.add_argument("--codex-home", metavar="DIR")
    parser.add_argument("--lease-ms", type=int, default=15_000)
    parser.add_argument("--idle-timeout-ms", type=int, default=60_000)
    parser.add_argument("--poll-interval-ms", type=int, default=1_000)
    parser.add_argument(
        "--announce",
        action="store_true",
        help="print each registration as a line of JSON, for who watches this process",
    )


def run(arguments: list[str]) -> int:
    """Work; the exit code follows the run's terminal status."""
    options = build_parser().parse_args(arguments)
    found = find_manager(PROG, options)
    if found is None:
        return MISUSED
    if options.command == "serve" and not options.unsupervised:
        return run_loop(_supervise(options, arguments, *found))
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
        placement=options.placement,
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
    working = scope.start(run_once(chosen, registered=_told(options)), "run")
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
    if not options.announce:
        _greet(shared.manager_url)
    registered = _told(options)
    await serve(shared, signals.first, max_runs=options.max_runs, registered=registered)
    return 0


def _greet(url: str) -> None:
    print(f"treadle runner takes runs from {url} (Ctrl-C stops it)", flush=True)


def _told(options: argparse.Namespace) -> Callable[["Registration"], None]:
    """Says what was registered to who watches us, where that is wanted."""
    from treadle.runner.announce import announcement

    def tell(registration: "Registration") -> None:
        if options.announce:
            print(announcement(registration), flush=True)

    return tell


async def _supervise(
    options: argparse.Namespace, arguments: list[str], url: str, token: str | None
) -> int:
    """Serve in a worker process, and see to it that there is one."""
    from treadle.runner.supervisor import Supervisor

    argv = [sys.executable, "-m", "treadle.cli.main", "runner", *arguments]
    argv += ["--unsupervised", "--announce"]
    if options.runner_id is None:
        # The same one all the time, for those who look at the list of runners.
        argv += ["--runner-id", f"runner_{new_id()}"]
    _greet(url)

    async def ended(end: "End") -> bool:
        return await _see_off(end, url, token)

    signals = StopSignals()

    def heard(line: bytes) -> None:
        # A worker is up. Its end may come with memory running out: no time to load anything.
        importlib.import_module("treadle.runner.announce")
        if options.announce:
            print(line.decode(errors="replace"), end="", flush=True)

    supervisor = Supervisor(argv, read_environment().variables, ended, heard)
    returncode = await supervisor.run(signals.first, signals.second)
    return STOPPED if returncode < 0 else returncode


async def _see_off(end: "End", url: str, token: str | None) -> bool:
    """Say at the manager that a worker is gone; whether another one is wanted."""
    from treadle.runner.announce import how_it_ended, read_announcement, report_gone
    from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable

    registered = [found for found in map(read_announcement, end.lines) if found is not None]
    free, wanted, unsaid = 0, bool(registered) or end.returncode != MISUSED, ""
    async with ManagerClient(url, token) as client:
        for each in registered:
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    answer = await report_gone(client, each, end.returncode)
            except (ManagerError, ManagerUnreachable, TimeoutError) as error:
                unsaid = f"; its leases end by their time ({error or 'no answer in time'})"
                continue
            free += len(answer.lapsed_runs)
            is_ours = answer.runner.session_id == each.session_id
            wanted = wanted and not (is_ours and answer.runner.draining)
    if end.returncode != 0:
        how = how_it_ended(end.returncode)
        what = f"worker {end.pid} was {how}" if end.returncode < 0 else f"worker {end.pid} {how}"
        complain(PROG, f"{what}; {free} of its runs are free for others{unsaid}")
    return wanted
