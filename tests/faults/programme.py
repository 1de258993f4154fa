"""Runs a programme: load on managers, faults by schedule, then the checker over all that was seen.

As a command (`make test-faults`) it prints what it does and what it found, and exits 1 when an
invariant does not hold. `python -m faults.programme --seed N` runs one seed again.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.api import Api
from faults.checker import Violation, check
from faults.clients import Poster, Subscriber, Thief, make_run
from faults.collect import read_final
from faults.injector import Injector
from faults.real_runners import RUNNER_LEASES, Dialogue, RunnerSpots
from faults.recorder import Place, Recorder
from faults.schedule import Programme
from faults.tenants import CALLERS, PLACES, Visitor, settle
from faults.world import World, make_world
from faults.writer import Job, Writer

IMPATIENCE_SECONDS = 4.0
"""A fault happens although the work for it was not done, when it stands still for so long."""
QUIET_SECONDS = 180.0
"""What is left to do once all faults are over has to end within this time (I9)."""
COMMANDS_PER_RUN = 12


@dataclass
class Report:
    """What a programme came to."""

    programme: Programme
    seconds: float = 0.0
    events: int = 0
    acked: int = 0
    appends: int = 0
    asked: int = 0
    unknown: int = 0
    frames: int = 0
    epochs: int = 0
    forged: int = 0
    accepted: int = 0
    fenced: int = 0
    reported: int = 0
    looks: int = 0
    rows: int = 0
    longest_stall: float = 0.0
    faults: Counter[str] = field(default_factory=Counter[str])
    skipped: Counter[str] = field(default_factory=Counter[str])
    violations: list[Violation] = field(default_factory=list[Violation])
    odd: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        """For people."""
        lines = [
            (
                f"seed {self.programme.seed} on {self.programme.database}: {self.seconds:.0f} s, "
                f"{self.events} events in the logs ({self.acked} acknowledged to writers by "
                f"{self.appends} appends), {self.epochs} epochs, {self.frames} frames read, "
                f"{self.asked} requests of which {self.unknown} without an answer"
            ),
            f"{sum(self.faults.values())} faults: {_counts(self.faults)}",
            (
                f"{self.forged} writes without a right to it, {self.accepted} accepted; "
                f"{self.fenced} lives fenced, {self.reported} reported gone; longest time without "
                f"an acknowledgement {self.longest_stall:.1f} s"
            ),
            f"{self.rows} rows shown to visitors of tenants and projects by {self.looks} requests",
        ]
        if self.skipped:
            lines.append(f"left out, nobody was there to meet them: {_counts(self.skipped)}")
        lines += [f"ODD {each}" for each in self.odd[:20]]
        lines += [f"VIOLATION {each}" for each in self.violations[:50]]
        verdict = "NOT HELD" if self.violations or self.odd else "held"
        lines.append(f"I1-I9, I11, I12: {verdict}; again with: {self.programme.again}")
        return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))


async def run_programme(
    programme: Programme, folder: Path, tell: Callable[[str], None] = lambda _: None
) -> Report:
    """Run it; `tell` hears of the faults as they happen."""
    rng = random.Random(f"network {programme.seed}")
    world_of = make_world(folder, rng, kind=programme.database, managers=programme.managers)
    async with world_of as world:
        return await _Run(programme, world, folder, tell).go()


class _Run:
    """One run of a programme in its world."""

    def __init__(
        self, programme: Programme, world: World, folder: Path, tell: Callable[[str], None]
    ) -> None:
        self._programme = programme
        self._world = world
        self._folder = folder
        self._tell = tell
        self._recorder = Recorder()
        self._report = Report(programme)
        self._writers: list[Writer] = []
        self._dialogues: list[Dialogue] = []

    def _rng(self, *name: object) -> random.Random:
        return random.Random(" ".join(map(str, (*name, self._programme.seed))))

    async def go(self) -> Report:
        """Load, faults, quiet, check."""
        began = time.monotonic()
        programme = self._programme
        urls = [manager.url for manager in self._world.managers]
        async with Api(urls, self._rng("api")) as api, self._runners(urls) as runners:
            places, callers = await self._settle(api)
            runners.begin(self._recorder, callers[0])
            work = await self._start_work(api, places)
            injector = Injector(self._world, self._writers, runners, programme.lease_ms)
            thief = Thief(api, self._recorder, self._rng("thief"))
            loop = asyncio.get_running_loop()
            visitors = [
                Visitor(api, self._recorder, caller, self._rng("visitor", caller.name))
                for caller in callers
            ]
            beside = [loop.create_task(thief.run(0.1)), loop.create_task(self._watch())]
            beside += [loop.create_task(visitor.run(0.1)) for visitor in visitors]
            try:
                await self._meet_faults(injector, work)
                await self._quiet(work)
            finally:
                for task in [*work, *beside]:
                    task.cancel()
                ends = await asyncio.gather(*work, *beside, return_exceptions=True)
                self._report.odd += [repr(end) for end in ends if isinstance(end, Exception)]
            self._report.odd += api.odd
            self._report.asked, self._report.unknown = api.asked, api.unknown
            self._report.faults, self._report.skipped = injector.done, injector.skipped
        self._report.odd += [each for spot in self._world.managers for each in spot.unexpected]
        await self._check()
        self._report.seconds = time.monotonic() - began
        return self._report

    async def _settle(self, api: Api) -> tuple[list[Place], list[Place]]:
        """Where runs are, and of where visitors are."""
        made = {name: await settle(api, name) for name in sorted({*PLACES, *CALLERS})}
        return [made[name] for name in PLACES], [made[name] for name in CALLERS]

    @contextlib.asynccontextmanager
    async def _runners(self, urls: list[str]) -> AsyncGenerator[RunnerSpots]:
        count = 2 if self._programme.sessions else 0
        runners = RunnerSpots(
            urls, self._folder, count=count, lease_ms=RUNNER_LEASES * self._programme.lease_ms
        )
        try:
            yield runners
        finally:
            await runners.stop()

    async def _start_work(self, api: Api, places: list[Place]) -> "list[asyncio.Task[None]]":
        programme, recorder = self._programme, self._recorder
        work: list[Coroutine[Any, Any, None]] = []
        quota = programme.events // programme.runs
        for number in range(programme.runs):
            name, place = f"w{number}", places[number % len(places)]
            run_id = await make_run(api, recorder, name, place, backendProfile="volume")
            max_batch = min(500, max(4, quota // 40))
            job = Job(run_id, name, quota, max_batch, programme.lease_ms, place, number % 2 == 1)
            self._writers.append(Writer(api, recorder, job, self._rng("writer", number)))
            work.append(self._writers[-1].run())
            pause = 0.2 + quota / 8000
            poster = Poster(api, recorder, job, self._rng("poster", number))
            work.append(poster.run(COMMANDS_PER_RUN, pause))
            follower = Subscriber(api, recorder, run_id, f"s{number}", place.tokens["reader"])
            work.append(follower.poll() if number % 3 == 2 else follower.stream())
        for number in range(programme.sessions):
            place = places[number % 2]  # those of one tenant, as their runners
            rng = self._rng("dialogue", number)
            dialogue = Dialogue(api, recorder, f"d{number}", place, rng)
            await dialogue.make(self._folder)
            self._dialogues.append(dialogue)
            work.append(dialogue.run(programme.turns))
            token = place.tokens["reader"]
            work.append(Subscriber(api, recorder, dialogue.run_id, f"f{number}", token).stream())
        loop = asyncio.get_running_loop()
        return [loop.create_task(each) for each in work]

    async def _meet_faults(self, injector: Injector, work: "list[asyncio.Task[None]]") -> None:
        events, plan = self._programme.events, self._programme.plan()
        for number, fault in enumerate(plan, 1):
            self._recorder.allowed_events = (fault.at + 1 / len(plan)) * events
            await self._progress_to(fault.at * events)
            if all(task.done() for task in work):
                self._tell(f"the work is done before fault {number}")
                return
            self._tell(f"{self._recorder.acked_events:8d} events, fault {number}: {fault}")
            await injector.apply(fault)
        self._recorder.allowed_events = float("inf")

    async def _progress_to(self, events: float) -> None:
        seen, since = self._recorder.acked_events, time.monotonic()
        while self._recorder.acked_events < events:
            await asyncio.sleep(0.02)
            if self._recorder.acked_events != seen:
                seen, since = self._recorder.acked_events, time.monotonic()
            elif time.monotonic() - since > IMPATIENCE_SECONDS:
                return

    async def _quiet(self, work: "list[asyncio.Task[None]]") -> None:
        """No more faults: what is left must come to its end."""
        self._world.heal()
        self._tell("no more faults; waiting for the rest of the work")
        left = self._programme.events - self._recorder.acked_events
        bound = QUIET_SECONDS + max(0, left) / 200
        done, pending = await asyncio.wait(work, timeout=bound)
        for task in done:
            if task.exception() is not None:
                self._report.odd.append(f"{task.get_coro()}: {task.exception()!r}")
        if pending:
            self._report.odd.append(f"{len(pending)} of {len(work)} did not end in {bound:.0f} s")

    async def _watch(self) -> None:
        """The longest time in which nothing was acknowledged while there was work."""
        seen, since = 0, time.monotonic()
        while not all(writer.is_over for writer in self._writers):
            await asyncio.sleep(0.05)
            now = time.monotonic()
            if self._recorder.acked_events != seen:
                seen, since = self._recorder.acked_events, now
            self._report.longest_stall = max(self._report.longest_stall, now - since)

    async def _check(self) -> None:
        self._tell("reading the logs and checking")
        await self._world.wait_up()
        report = self._report
        for run_id, history in self._recorder.runs.items():
            url = self._world.managers[0].direct_url
            history.final = {run_id: await read_final(url, run_id)}
            report.events += len(history.final[run_id].log)
            report.acked += sum(len(tried.digests) for tried in history.tried)
            report.appends += len(history.tried)
            report.frames += sum(len(copy.seqs) for copy in history.copies)
            report.epochs += sum(e.phase == "run-claimed" for e in history.final[run_id].log)
            report.forged += len(history.forged)
            report.reported += sum(r.lapsed_at is None for r in history.reported)
            report.accepted += sum(forged.accepted for forged in history.forged)
            report.violations += check(history)
            history.final = {}
        report.acked = self._recorder.acked_events
        report.fenced = sum(writer.fenced for writer in self._writers)
        report.rows, report.looks = self._recorder.rows_shown, self._recorder.looks
        report.forged += len(self._recorder.common.forged)
        report.accepted += sum(forged.accepted for forged in self._recorder.common.forged)
        report.violations += check(self._recorder.common)


def main() -> int:
    """Run what the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--sessions", type=int, default=4, help="runs for real runners")
    parser.add_argument("--turns", type=int, default=6, help="turns per session")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)
    programme = Programme(
        seed=options.seed,
        events=options.events,
        faults=options.faults,
        database=options.database,
        runs=options.runs,
        sessions=options.sessions,
        turns=options.turns,
    )
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    print(f"to run this again: {programme.again}", flush=True)
    with tempfile.TemporaryDirectory(prefix="treadle-faults-") as folder:
        report = asyncio.run(run_programme(programme, Path(folder), tell))
    print(report)
    return 1 if report.violations or report.odd else 0


if __name__ == "__main__":
    sys.exit(main())
