"""`treadle bench turns`: an app-server's start, turns, fleet and memory, beside another's.

The model costs next to nothing, so what is measured is the server. Absolute figures depend on the
machine and on what else it does; hold figures of one run against one another.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

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

STARTS = 9
WARM_TURNS = 40
COMMAND_TURNS = 20
TURNS_PER_THREAD = 10


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="treadle bench turns", description=__doc__)
    add_flags(parser, _PARTS)
    parser.add_argument("--threads", type=int, default=100, help="threads of the fleet")
    parser.add_argument("--turns", type=int, default=10_000, help="turns of the memory part")
    return parser


def run(arguments: list[str]) -> int:
    """Measure; 0 when all could be measured, 1 when a server could not be started."""
    return run_measurement(_measure(build_parser().parse_args(arguments)))


async def _measure(options: argparse.Namespace) -> int:
    commands = commands_of(options)
    path = read_environment().get("PATH") or "/usr/bin:/bin"
    found: dict[str, Figures] = {name: {} for name in commands}
    for part in options.only or list(_PARTS):
        for name, command in commands.items():
            with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
                async with BenchModel() as model:
                    place = _Place(command, Path(folder), model.url, path, options)
                    found[name] |= await _PARTS[part](place)
    report(found, as_json=options.json)
    return 0


class _Place:
    """A server's command and all it needs; each start has a home of its own."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        url: str,
        path: str,
        options: argparse.Namespace,
    ) -> None:
        self._command, self._folder, self._url, self._path = command, folder, url, path
        self.options = options
        self._count = 0

    def server(self) -> contextlib.AbstractAsyncContextManager[Server]:
        self._count += 1
        return running(self._command, self._folder / str(self._count), self._url, self._path)


async def _start(place: _Place) -> Figures:
    seconds: list[float] = []
    for _ in range(STARTS):
        began = time.perf_counter()
        async with place.server():
            seconds.append(time.perf_counter() - began)
    return {"start to greeted, ms": statistics.median(seconds) * 1e3}


async def _turn(place: _Place) -> Figures:
    async with place.server() as server:
        plain, cpu = await _series(server, "go on", WARM_TURNS)
        command, _ = await _series(server, "run", COMMAND_TURNS)
    return {
        "turn, ms": plain * 1e3,
        "processor time of a turn, ms": cpu * 1e3,
        "turn with a command, ms": command * 1e3,
    }


async def _series(server: Server, text: str, count: int) -> tuple[float, float]:
    """Median time of turns one after another, and processor time of each, in seconds."""
    thread = await server.start_thread()
    await server.turn(thread, text)
    seconds: list[float] = []
    before = server.cpu_seconds()
    for _ in range(count):
        began = time.perf_counter()
        await server.turn(thread, text)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), (server.cpu_seconds() - before) / count


async def _fleet(place: _Place) -> Figures:
    count, each = place.options.threads, 3
    async with place.server() as server:
        threads = [await server.start_thread() for _ in range(count)]
        await server.turn(threads[0], "warm")
        before, began = server.cpu_seconds(), time.perf_counter()

        async def work(thread: str) -> None:
            for _ in range(each):
                await server.turn(thread, "go on")

        async with asyncio.TaskGroup() as group:
            for thread in threads:
                group.create_task(work(thread))
        seconds = time.perf_counter() - began
        cpu = server.cpu_seconds() - before
        return {
            f"turns a second, {count} threads at once": count * each / seconds,
            f"processor time of a turn, {count} at once, ms": cpu / (count * each) * 1e3,
            "memory after that, MB": server.resident_bytes() / 1e6,
        }


async def _memory(place: _Place) -> Figures:
    """Threads that come and go; memory after a tenth of them, a half, and all."""
    total = place.options.turns // TURNS_PER_THREAD
    marks = {total // 10: "a tenth", total // 2: "half", total: "all"}
    figures: Figures = {}
    async with place.server() as server:
        for number in range(1, total + 1):
            thread = await server.start_thread()
            for _ in range(TURNS_PER_THREAD):
                await server.turn(thread, "go on")
            await server.drop(thread)
            if number in marks:
                label = f"memory after {marks[number]} of {place.options.turns} turns, MB"
                figures[label] = server.resident_bytes() / 1e6
    return figures


_PARTS: dict[str, Callable[[_Place], Awaitable[Figures]]] = {
    "start": _start,
    "turn": _turn,
    "fleet": _fleet,
    "memory": _memory,
}
