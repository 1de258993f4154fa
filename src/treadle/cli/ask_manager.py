"""What commands that ask a manager share: its flags, finding it, how refusals exit."""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from treadle.cli.exit_codes import FAILED, MISUSED, TRANSIENT
from treadle.cli.manager import default_data
from treadle.cli.manager_files import ManagerFiles
from treadle.cli.wiring.loop import run_loop

WHOLE = frozenset({"run", "command", "runner", "request", "token"})
"""Columns with ids: they are to be copied and stay whole, whatever becomes of the rest."""
PIPE_COLUMNS = 200

Act = Callable[[Any, argparse.Namespace], Awaitable[int]]


def add_manager_flags(parser: argparse.ArgumentParser) -> None:
    """Which manager to ask."""
    parser.add_argument("--manager-url", help="default: the manager of the data folder")
    parser.add_argument("--token-file", type=Path, help="default: the data folder's token")
    parser.add_argument("--data", type=Path, default=None, metavar="DIR", help="data folder")


def find_manager(prog: str, options: argparse.Namespace) -> tuple[str, str | None] | None:
    """Address and token of the manager to talk to: as given, else as the data folder says.

    None when there is none to talk to; why, and what to do, is on standard error then.
    """
    files = ManagerFiles(options.data or default_data())
    token_file = options.token_file
    try:
        token = token_file.read_text(encoding="utf-8").strip() if token_file else files.read_token()
    except OSError as error:
        complain(prog, f"cannot read the token file {token_file}: {error.strerror}")
        return None
    url = options.manager_url or files.read_address()
    if url is None:
        complain(
            prog,
            "no manager is known; start one with `treadle manager`, or name it with --manager-url",
        )
        return None
    return url, token


def ask(prog: str, options: argparse.Namespace, acts: Mapping[str, Act]) -> int:
    """Find the manager and let the chosen sub-command ask it; the exit code."""
    found = find_manager(prog, options)
    if found is None:
        return MISUSED
    return run_loop(_ask(prog, options, acts[options.command], found))


async def _ask(
    prog: str, options: argparse.Namespace, act: Act, manager: tuple[str, str | None]
) -> int:
    import httpx

    from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable

    try:
        async with ManagerClient(*manager) as client:
            return await act(client, options)
    except ManagerError as error:
        complain(prog, _with_remedy(error.status, error.detail))
        if error.status in (429, 503):
            return TRANSIENT
        return MISUSED if 400 <= error.status < 500 else FAILED
    except (ManagerUnreachable, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        complain(prog, f"{error}; is it running? `treadle manager` starts one")
        return TRANSIENT


def _with_remedy(status: int, detail: str) -> str:
    if status != 401:
        return detail
    return f"{detail} Name the manager's token file with --token-file, or its folder with --data."


def print_json(value: object) -> None:
    """One line of JSON."""
    import msgspec

    print(json.dumps(msgspec.to_builtins(value), ensure_ascii=False), flush=True)


def print_table(titles: list[str], rows: list[tuple[Any, ...]]) -> None:
    """A table for people; wide enough for scripts that cut it, when it goes into a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    columns = [Column(title, no_wrap=title in WHOLE, overflow="fold") for title in titles]
    table = Table(*columns, box=box.SIMPLE, show_header=any(titles), pad_edge=False)
    for row in rows:
        table.add_row(*[Text("" if cell is None else str(cell)) for cell in row])
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    console.print(table)


def span(milliseconds: int) -> str:
    """A time span for people."""
    seconds = milliseconds // 1000
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def complain(prog: str, text: str) -> None:
    """A line on standard error."""
    print(f"{prog}: {text}", file=sys.stderr)
