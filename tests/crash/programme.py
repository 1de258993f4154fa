"""Kills a server at its write boundaries, again and again, and looks at what is left.

    python -m crash.programme --schedules 500 [--seed 17] [--jobs 2]

A schedule is a home that lives several lives. Each ends by a fault at a place and passage that the
seed chooses: at a fault point of the engine, or within a write. After each life another server
looks at the threads, first as they are, then without any index. Schedule S alone is repeated by
`--seed S --schedules 1`.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from crash.expected import Model
from crash.life import live, look, tear
from support.fault_places import places_of
from treadle.kit.fault_points import Fault, arm

LIVES = 3
LOOK_SECONDS = 120.0
TORN = "a torn write"

PASSAGES = {
    TORN: 60,
    "engine.log.writing": 60,
    "engine.log.written": 60,
    "engine.log.opening": 8,
    "engine.index.committing": 40,
    "engine.index.committed": 40,
}
"""How often a life passes a place, about; once or twice where nothing is said."""

Work = Callable[[int], Coroutine[Any, Any, None]]


def apart(work: Work, prepare: Callable[[], None] = lambda: None) -> tuple[int, list[Any]]:
    """Run something in a process of its own; its end (wait status) and the lines it wrote."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(here)
            prepare()
            asyncio.run(asyncio.wait_for(work(there), LOOK_SECONDS))
            code = 0
        except BaseException:  # noqa: BLE001 - the parent judges
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(there)
    with os.fdopen(here, "rb") as pipe:
        lines = pipe.read().splitlines()
    return os.waitpid(child, 0)[1], [json.loads(line) for line in lines]


def schedule(seed: int, top: Path, hits: Counter[str]) -> list[str]:
    """Run one schedule; what is wrong afterwards."""
    dice = random.Random(seed)
    places = [*places_of("engine"), TORN]
    model = Model()
    for number in range(LIVES):
        place = dice.choice(places)
        passage = dice.randint(1, PASSAGES.get(place, 2))

        def prepare(place: str = place, passage: int = passage) -> None:
            if place == TORN:
                tear(passage)
            else:
                arm([Fault(place, "kill", passage)])

        status, journal = apart(lambda fd, n=number: live(top, fd, f"{seed}/{n}"), prepare)
        if os.WIFSIGNALED(status):
            hits[place] += 1
        elif status != 0:
            return [f"life {number} broke by itself (fault {place}@{passage})"]
        model.take(journal)
        problems = check(top, model)
        if problems:
            return [f"life {number}, {place}@{passage}: {text}" for text in problems]
    return []


def check(top: Path, model: Model) -> list[str]:
    """Look twice, the second time without an index; what is wrong."""
    status, seen = apart(lambda fd: look(top, fd))
    if status != 0:
        return ["the next server did not serve"]
    problems = model.problems(seen[0])
    for index in (top / "home").glob("*.sqlite*"):
        index.unlink()
    status, again = apart(lambda fd: look(top, fd))
    if status != 0:
        return [*problems, "the server without an index did not serve"]
    for thread_id in {**seen[0], **again[0]}:
        one, two = seen[0].get(thread_id), again[0].get(thread_id)
        if one != two:
            problems.append(f"{thread_id}: other without an index: {_difference(one, two)}")
    model.settle(seen[0])
    return problems


def _difference(one: Any, two: Any) -> str:
    if one is None or two is None:
        return "there only with it" if two is None else "there only without it"
    flat = [(part, key) for part in ("listed", "thread") for key in one[part]]
    return (
        ", ".join(
            f"{part}.{key}: {one[part][key]!r} and {two[part].get(key)!r}"
            for part, key in flat
            if one[part][key] != two[part].get(key)
        )[:400]
        or f"archived {one['archived']} and {two['archived']}"
    )


def run(
    count: int, first_seed: int, out: Callable[[str], None] = print
) -> tuple[int, Counter[str]]:
    """Run schedules; how many failed, and how often each place killed."""
    hits: Counter[str] = Counter()
    failed = 0
    for seed in range(first_seed, first_seed + count):
        top = Path(tempfile.mkdtemp(prefix="treadle-crash-"))
        try:
            problems = schedule(seed, top, hits)
        finally:
            shutil.rmtree(top, ignore_errors=True)
        for text in problems:
            out(f"seed {seed}: {text}")
        failed += bool(problems)
    return failed, hits


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    if asked.jobs > 1:
        return side_by_side(asked.schedules, asked.seed, asked.jobs)
    failed, hits = run(asked.schedules, asked.seed, lambda text: print(text, flush=True))
    for place, count in sorted(hits.items()):
        print(f"{count:6} kills at {place}")
    print(f"{failed} of {asked.schedules} schedules failed ({sum(hits.values())} kills)")
    return 1 if failed else 0


def side_by_side(count: int, first_seed: int, jobs: int) -> int:
    """Share the schedules out among processes like this one."""
    ends = [first_seed + count * k // jobs for k in range(jobs + 1)]
    command = [sys.executable, "-m", "crash.programme"]
    parts = [
        subprocess.Popen([*command, "--seed", str(begin), "--schedules", str(end - begin)])
        for begin, end in itertools.pairwise(ends)
        if end > begin
    ]
    return max(part.wait() for part in parts)


if __name__ == "__main__":
    sys.exit(main())
