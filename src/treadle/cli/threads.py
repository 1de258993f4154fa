"""`treadle threads`: look after the threads of a home: check and mend their files, free one."""

import argparse
import sys
from pathlib import Path

import msgspec

from treadle.cli.exit_codes import DIFFERS, DONE, FAILED
from treadle.cli.wiring.loop import run_loop
from treadle.config.load import read_environment


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle threads",
        description=__doc__,
        epilog="exit codes: 0 done, nothing is left to mend; 1 the home cannot be used, or there "
        "is no such thread; 7 fsck found what is damaged.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fsck = commands.add_parser(
        "fsck",
        help="look through all files of threads and the index for damage",
        description="Damaged lines stay where they are and are passed over by readers; with "
        "--repair, torn ends are ended, scratch files removed and a wrong index made anew. Threads "
        "that somebody writes are left alone.",
    )
    fsck.add_argument("--repair", action="store_true", help="mend what can be mended")
    free = commands.add_parser(
        "free",
        help="take a thread away from the process that writes it",
        description="The process learns it with its next write, which is refused.",
    )
    free.add_argument("thread_id", metavar="THREAD")
    for sub in (fsck, free):
        sub.add_argument("--home", type=Path, metavar="DIR", help="home folder of the threads")
        sub.add_argument("--json", action="store_true", help="for programs")
    return parser


def run(arguments: list[str]) -> int:
    """Check a home, or free a thread; the exit code."""
    from treadle.engine.store.thread_store import StoreError

    options = build_parser().parse_args(arguments)
    home = (options.home or read_environment().home_folder()).absolute()
    try:
        if options.command == "fsck":
            return _fsck(home, repair=options.repair, as_json=options.json)
        return run_loop(_free(home, options.thread_id, as_json=options.json))
    except StoreError as error:
        print(f"treadle threads: {error}", file=sys.stderr)
        return FAILED


def _fsck(home: Path, *, repair: bool, as_json: bool) -> int:
    from treadle.engine.store.local.fsck import check_home
    from treadle.kit.clock import SystemClock

    if not home.is_dir():
        print(f"treadle threads: there is no folder {home}; name one with --home", file=sys.stderr)
        return FAILED
    report = check_home(home, SystemClock(), repair=repair)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        for finding in report.findings:
            mark = "  (repaired)" if finding.repaired else ""
            print(f"{finding.path}: {finding.problem}: {finding.detail}{mark}")
        print(f"{report.files} files, {report.threads} threads, {len(report.findings)} findings")
    return DONE if report.sound else DIFFERS


async def _free(home: Path, thread_id: str, *, as_json: bool) -> int:
    from treadle.engine.store.local.store import LocalThreadStore
    from treadle.kit.clock import SystemClock

    store = LocalThreadStore(home, SystemClock())
    try:
        await store.free(thread_id)
    finally:
        await store.close()
    freed = msgspec.json.encode({"threadId": thread_id, "free": True}).decode()
    print(freed if as_json else f"thread {thread_id} is free", flush=True)
    return DONE
