"""`treadle bench threads`: lists, resumes and memory of stored threads, beside another server's.

Threads lie in the home as an older program left them, and no server has seen them before. Absolute
figures depend on the machine and on what else it does; hold figures of one run against one another.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

from treadle.cli.bench_threads.rollouts import write_rollouts
from treadle.cli.bench_turns.model import BenchModel
from treadle.cli.bench_turns.server import Server, running
from treadle.cli.bench_turns.side_by_side import (
    Figures,
    add_flags,
    commands_of,
    report,
    run_measurement,
)
from treadle.config.load import read_environment

PAGES = 20
IDLE = (20, 420)
"""Loaded threads at the two readings of memory."""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="treadle bench threads", description=__doc__)
    add_flags(parser, _PARTS)
    parser.add_argument("--files", type=int, default=3000, help="threads of the list part")
    parser.add_argument("--items", type=int, default=20_000, help="items of the thread to resume")
    parser.add_argument("--rounds", type=int, default=3, help="times each part is measured")
    return parser


def run(arguments: list[str]) -> int:
    """Measure; 0 when all could be measured, 1 when a server could not be started."""
    return run_measurement(_measure(build_parser().parse_args(arguments)))


async def _measure(options: argparse.Namespace) -> int:
    commands = commands_of(options)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in commands}
    for part in options.only or list(_PARTS):
        for _ in range(options.rounds):
            for name, command in commands.items():
                for label, figure in (await _PARTS[part](_Place(command, options))).items():
                    found[name].setdefault(label, []).append(figure)
    medians = {
        name: {label: statistics.median(figures) for label, figures in part.items()}
        for name, part in found.items()
    }
    report(medians, as_json=options.json)
    return 0


class _Place:
    """A server's command and what is measured of it."""

    def __init__(self, command: list[str], options: argparse.Namespace) -> None:
        self._command = command
        self.options = options

    @contextlib.asynccontextmanager
    async def server(
        self, prepare: Callable[[Path], object] | None = None
    ) -> AsyncGenerator[Server]:
        """The server on a new home, which `prepare` fills before the start."""
        path = read_environment().get("PATH") or "/usr/bin:/bin"
        with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
            async with (
                BenchModel() as model,
                running(self._command, Path(folder), model.url, path, prepare) as server,
            ):
                yield server


async def _list(place: _Place) -> Figures:
    count = place.options.files
    async with place.server() as server:
        empty = server.greeted_after_seconds
    async with place.server(lambda home: write_rollouts(home, count)) as server:
        full = server.greeted_after_seconds
        first, _ = await _page(server, 50)
        pages = [(await _page(server, 50))[0] for _ in range(PAGES)]
        began = time.perf_counter()
        seen, cursor = 0, None
        while True:
            _, page = await _page(server, 100, cursor)
            seen, cursor = seen + len(page["data"]), page["nextCursor"]
            if cursor is None:
                break
        return {
            "start to greeted, empty home, ms": empty * 1e3,
            f"start to greeted, {count} new files, ms": full * 1e3,
            "first page of 50, ms": first * 1e3,
            "page of 50, ms": statistics.median(pages) * 1e3,
            "all pages of 100, ms": (time.perf_counter() - began) * 1e3,
            "threads seen in them": seen,
        }


async def _page(server: Server, limit: int, cursor: str | None = None) -> tuple[float, Any]:
    """Seconds for a page, and the page."""
    params: dict[str, Any] = {"limit": limit, "modelProviders": [], "cursor": cursor}
    began = time.perf_counter()
    page = await server.client.request("thread/list", params)
    return time.perf_counter() - began, page


async def _resume(place: _Place) -> Figures:
    items = place.options.items
    ids: list[str] = []

    def fill(home: Path) -> None:
        ids.extend(write_rollouts(home, 2, items))

    async with place.server(fill) as server:
        taken: list[float] = []
        for thread_id in ids:
            began = time.perf_counter()
            await server.client.request("thread/resume", {"threadId": thread_id})
            taken.append(time.perf_counter() - began)
        began = time.perf_counter()
        await server.turn(ids[1], "go on")
        return {
            f"resume {items} items, first thing after start, ms": taken[0] * 1e3,
            f"resume {items} items, later, ms": taken[1] * 1e3,
            "first turn after it, ms": (time.perf_counter() - began) * 1e3,
        }


async def _idle(place: _Place) -> Figures:
    few, many = IDLE
    async with place.server() as server:
        for _ in range(few):
            await server.start_thread()
        before = server.resident_bytes()
        for _ in range(many - few):
            await server.start_thread()
        return {
            "an idle loaded thread, KB": (server.resident_bytes() - before) / (many - few) / 1e3
        }


_PARTS: dict[str, Callable[[_Place], Awaitable[Figures]]] = {
    "list": _list,
    "resume": _resume,
    "idle": _idle,
}
