"""`treadle runs`: look at the runs of a manager, answer and stop them, prove their logs."""

import argparse
import asyncio
import json
from typing import Any

from treadle.cli.ask_manager import (
    Act,
    add_manager_flags,
    ask,
    complain,
    print_json,
    print_table,
)
from treadle.cli.exit_codes import DIFFERS, MISUSED, TRANSIENT, code_of_run

PROG = "treadle runs"
PAGE = 200
ANSWER_SECONDS = 15.0
"""How long `answer` waits to see what became of it; the answer itself waits on."""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description=__doc__,
        epilog="exit codes: 0 done; 1 the manager failed; 2 wrong request; 6 no answer, try again; "
        "7 verify found differences. tail: as the run ended (0 completed, 1 failed, 3 failed for a "
        "reason that only the user can mend, 4 cancelled, 6 failed for now).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="runs, newest first")
    listing.add_argument("--limit", type=int, default=20)
    listing.add_argument("--status", help="such as running, needs-input or failed")
    listing.add_argument("--tenant", metavar="ID")
    listing.add_argument("--project", metavar="ID")
    show = commands.add_parser("show", help="a run with its commands, questions and result")
    tail = commands.add_parser("tail", help="events of a run until it ends")
    tail.add_argument("--after-seq", type=int, default=0, metavar="N")
    answer = commands.add_parser("answer", help="decide what the run's agent asks")
    interrupt = commands.add_parser("interrupt", help="stop the run's turn; the run stays open")
    cancel = commands.add_parser("cancel", help="end the run")
    for stopping in (interrupt, cancel):
        stopping.add_argument("--reason", default="asked for on the command line")
    for single in (show, tail, answer, interrupt, cancel):
        single.add_argument("run_id", metavar="RUN")
    answer.add_argument("request_id", metavar="REQUEST", help="as `show` and `tail` name it")
    answer.add_argument("decision", metavar="DECISION", help="one of those that it offers")
    answer.add_argument(
        "--content", type=json.loads, metavar="JSON", help="fields of a form, result of a tool"
    )
    verify = commands.add_parser("verify", help="fold logs again and compare with what is stored")
    verify.add_argument("run_ids", metavar="RUN", nargs="*", help="default: all runs")
    for sub in (listing, show, tail, answer, interrupt, cancel, verify):
        sub.add_argument("--json", action="store_true", help="for programs")
        add_manager_flags(sub)
    return parser


def run(arguments: list[str]) -> int:
    """Ask the manager; the exit code."""
    return ask(PROG, build_parser().parse_args(arguments), _ACTS)


async def _list(client: Any, options: argparse.Namespace) -> int:
    page = await client.list_runs(
        limit=options.limit,
        status=options.status,
        tenantId=options.tenant,
        projectId=options.project,
    )
    if options.json:
        print_json(page.items)
        return 0
    rows = [
        (run.id, run.status, _note(run), run.claimed_by, run.last_seq, run.updated_at)
        for run in page.items
    ]
    print_table(["run", "status", "note", "runner", "events", "changed"], rows)
    return 0


def _note(run: Any) -> str | None:
    """What most needs to be known: how it failed, or what its agent asks."""
    if run.pending_requests:
        return "; ".join(f"{each.id}: {each.summary}" for each in run.pending_requests)
    return run.failure_kind


async def _show(client: Any, options: argparse.Namespace) -> int:
    run = await client.get_run(options.run_id)
    commands = (await client.commands(options.run_id)).items
    result = await client.result(options.run_id)
    if options.json:
        print_json({"run": run, "commands": commands, "result": result})
        return 0
    facts = [
        ("run", run.id),
        ("status", run.status),
        ("failure", run.failure_kind),
        ("", run.failure_message),
        ("remedy", result.failure.remedy if result.failure else None),
        ("backend profile", run.backend_profile),
        ("placement", run.placement),
        ("workspace", run.workspace_ref.path if run.workspace_ref else None),
        ("runner", run.claimed_by),
        ("epoch", run.epoch),
        ("events", run.last_seq),
        ("created", run.created_at),
        ("changed", run.updated_at),
        ("reply", result.reply),
    ]
    print_table(["", ""], [fact for fact in facts if fact[1] is not None])
    rows = [(one.cmd_seq, one.type, one.state, one.failure_kind, one.id) for one in commands]
    print_table(["#", "type", "state", "failure", "command"], rows)
    if run.pending_requests:
        asked = [
            (one.id, one.kind, one.summary, " | ".join(one.decisions), one.expires_at)
            for one in run.pending_requests
        ]
        print_table(["request", "kind", "asks", "decide", "until"], asked)
        print(f"treadle runs answer {run.id} REQUEST DECISION", flush=True)
    return 0


async def _tail(client: Any, options: argparse.Namespace) -> int:
    from treadle.cli.progress import Progress

    await client.get_run(options.run_id)  # a run that does not exist is said at once
    progress = Progress(options.run_id)
    async for event in client.follow(options.run_id, options.after_seq):
        if options.json:
            print_json(event)
        else:
            progress.show(event.type, event.payload)
    run = await client.get_run(options.run_id)
    return code_of_run(run.terminal_status, run.failure_kind)


async def _answer(client: Any, options: argparse.Namespace) -> int:
    run = await client.get_run(options.run_id)
    payload = {"requestId": options.request_id, "decision": options.decision}
    if options.content is not None:
        payload["content"] = options.content
    command = await client.post_command(options.run_id, "answer", payload)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            command = await _closed(client, command, run.last_seq)
    except TimeoutError:
        complain(PROG, "no runner has taken the answer up yet; `treadle runs show` tells when")
        _print_command(options, await client.get_command(command.run_id, command.id))
        return TRANSIENT
    _print_command(options, command)
    return MISUSED if command.state == "rejected" else 0


async def _closed(client: Any, command: Any, seen: int) -> Any:
    """The command once it is closed; looks whenever the run's log grows."""
    while command.state in ("pending", "delivered"):
        page = await client.events(command.run_id, seen, wait_ms=1000)
        seen = page.items[-1].seq if page.items else seen
        command = await client.get_command(command.run_id, command.id)
    return command


async def _stop(client: Any, options: argparse.Namespace) -> int:
    payload = {"reason": options.reason}
    command = await client.post_command(options.run_id, options.command, payload)
    _print_command(options, command)
    return MISUSED if command.state == "rejected" else 0


def _print_command(options: argparse.Namespace, command: Any) -> None:
    if options.json:
        print_json(command)
        return
    note = f": {command.failure_message}" if command.failure_message else ""
    print(f"{command.type} {command.state}{note}", flush=True)


async def _verify(client: Any, options: argparse.Namespace) -> int:
    run_ids = options.run_ids or await _all_runs(client)
    differing = 0
    for run_id in run_ids:
        findings: list[str] = await client.verify_run(run_id)
        differing += bool(findings)
        if options.json:
            print_json({"runId": run_id, "findings": findings})
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
    "answer": _answer,
    "interrupt": _stop,
    "cancel": _stop,
    "verify": _verify,
}
