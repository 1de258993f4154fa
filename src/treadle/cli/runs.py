"""`treadle runs`: look at the runs of a manager, stop them, prove their logs."""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from treadle.cli.runner import EXIT_CODES, NOT_RUN, find_manager
from treadle.cli.wiring.loop import run_loop

FAILED = 1
"""Exit code when the manager failed (class `service`)."""
REFUSED = 2
"""Exit code when the request was wrong: no such run, an ended one (class `user`)."""
UNREACHABLE = 6
"""Exit code when no manager answers or it has too much to do (class `transient`): try again."""
DIFFERS = 7
"""Exit code when a log does not explain what is stored."""
PAGE = 200
WHOLE = frozenset({"run", "command"})
PIPE_COLUMNS = 200

Act = Callable[[Any, argparse.Namespace], Awaitable[int]]


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle runs",
        description=__doc__,
        epilog="exit codes: 0 done; 1 the manager failed; 2 wrong request; 6 no answer, try again; "
        "7 verify found differences. tail: by the run's end (1 failed, 3 blocked, 4 cancelled).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="runs, newest first")
    listing.add_argument("--limit", type=int, default=20)
    listing.add_argument("--status")
    listing.add_argument("--tenant", metavar="ID")
    listing.add_argument("--project", metavar="ID")
    show = commands.add_parser("show", help="a run with its commands and result")
    tail = commands.add_parser("tail", help="events of a run until it ends")
    tail.add_argument("--after-seq", type=int, default=0, metavar="N")
    interrupt = commands.add_parser("interrupt", help="stop the run's turn; the run stays open")
    cancel = commands.add_parser("cancel", help="end the run")
    for stopping in (interrupt, cancel):
        stopping.add_argument("--reason", default="asked for on the command line")
    for single in (show, tail, interrupt, cancel):
        single.add_argument("run_id", metavar="RUN")
    verify = commands.add_parser("verify", help="fold logs again and compare with what is stored")
    verify.add_argument("run_ids", metavar="RUN", nargs="*", help="default: all runs")
    for sub in (listing, show, tail, interrupt, cancel, verify):
        sub.add_argument("--json", action="store_true", help="for programs")
        sub.add_argument("--manager-url", help="default: the manager of the data folder")
        sub.add_argument("--token-file", type=Path, help="default: the data folder's token")
        sub.add_argument("--data", type=Path, default=None, metavar="DIR", help="data folder")
    return parser


def run(arguments: list[str]) -> int:
    """Ask the manager; the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        url, token = find_manager(options.manager_url, options.token_file, options.data)
    except OSError as error:
        _complain(f"cannot read the token file {options.token_file}: {error.strerror}")
        return REFUSED
    if url is None:
        _complain(
            "no manager is known; start one with `treadle manager`, or name it with --manager-url"
        )
        return REFUSED
    return run_loop(_ask(options, url, token))


async def _ask(options: argparse.Namespace, url: str, token: str | None) -> int:
    import httpx

    from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable

    try:
        async with ManagerClient(url, token) as client:
            return await _ACTS[options.command](client, options)
    except ManagerError as error:
        _complain(error.detail)
        if error.status in (429, 503):
            return UNREACHABLE
        return REFUSED if 400 <= error.status < 500 else FAILED
    except (ManagerUnreachable, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        _complain(f"{error}; is it running? `treadle manager` starts one")
        return UNREACHABLE


async def _list(client: Any, options: argparse.Namespace) -> int:
    page = await client.list_runs(
        limit=options.limit,
        status=options.status,
        tenantId=options.tenant,
        projectId=options.project,
    )
    if options.json:
        _print_json(page.items)
        return 0
    rows = [
        (run.id, run.status, run.failure_kind, run.claimed_by, run.last_seq, run.updated_at)
        for run in page.items
    ]
    _print_table(["run", "status", "failure", "runner", "events", "changed"], rows)
    return 0


async def _show(client: Any, options: argparse.Namespace) -> int:
    run = await client.get_run(options.run_id)
    commands = (await client.commands(options.run_id)).items
    result = await client.result(options.run_id)
    if options.json:
        _print_json({"run": run, "commands": commands, "result": result})
        return 0
    facts = [
        ("run", run.id),
        ("status", run.status),
        ("failure", run.failure_kind),
        ("", run.failure_message),
        ("backend profile", run.backend_profile),
        ("workspace", run.workspace_ref.path if run.workspace_ref else None),
        ("runner", run.claimed_by),
        ("epoch", run.epoch),
        ("events", run.last_seq),
        ("created", run.created_at),
        ("changed", run.updated_at),
        ("reply", result.reply),
    ]
    _print_table(["", ""], [fact for fact in facts if fact[1] is not None])
    rows = [(one.cmd_seq, one.type, one.state, one.failure_kind, one.id) for one in commands]
    _print_table(["#", "type", "state", "failure", "command"], rows)
    return 0


async def _tail(client: Any, options: argparse.Namespace) -> int:
    from treadle.cli.progress import Progress

    await client.get_run(options.run_id)  # a run that does not exist is said at once
    progress = Progress()
    async for event in client.follow(options.run_id, options.after_seq):
        if options.json:
            _print_json(event)
        else:
            progress.show(event.type, event.payload)
    run = await client.get_run(options.run_id)
    return EXIT_CODES.get(run.terminal_status or "", NOT_RUN)


async def _stop(client: Any, options: argparse.Namespace) -> int:
    payload = {"reason": options.reason}
    command = await client.post_command(options.run_id, options.command, payload)
    if options.json:
        _print_json(command)
    else:
        note = f": {command.failure_message}" if command.failure_message else ""
        print(f"{command.type} {command.state}{note}", flush=True)
    return REFUSED if command.state == "rejected" else 0


async def _verify(client: Any, options: argparse.Namespace) -> int:
    run_ids = options.run_ids or await _all_runs(client)
    differing = 0
    for run_id in run_ids:
        findings: list[str] = await client.verify_run(run_id)
        differing += bool(findings)
        if options.json:
            _print_json({"runId": run_id, "findings": findings})
        for finding in [] if options.json else findings:
            print(f"{run_id}: {finding}", flush=True)
    if not options.json:
        print(f"{len(run_ids)} runs verified, {differing} differ", flush=True)
    return DIFFERS if differing else 0


async def _all_runs(client: Any) -> list[str]:
    run_ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await client.list_runs(limit=PAGE, cursor=cursor)
        run_ids += [run.id for run in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return run_ids


_ACTS: dict[str, Act] = {
    "list": _list,
    "show": _show,
    "tail": _tail,
    "interrupt": _stop,
    "cancel": _stop,
    "verify": _verify,
}


def _print_json(value: object) -> None:
    import msgspec

    print(json.dumps(msgspec.to_builtins(value), ensure_ascii=False), flush=True)


def _print_table(titles: list[str], rows: list[tuple[Any, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # Ids are to be copied: they stay whole, whatever becomes of the rest.
    columns = [Column(title, no_wrap=title in WHOLE, overflow="fold") for title in titles]
    table = Table(*columns, box=box.SIMPLE, show_header=any(titles), pad_edge=False)
    for row in rows:
        table.add_row(*[Text("" if cell is None else str(cell)) for cell in row])
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    console.print(table)


def _complain(text: str) -> None:
    print(f"treadle runs: {text}", file=sys.stderr)
