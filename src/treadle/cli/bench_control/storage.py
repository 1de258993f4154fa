"""Appends and claims at the repository, beside plain INSERTs of the same rows.

Both sides have as many writers at once: ours share one repository, the anchor's have a connection
each (SQLite: one, since it has one writer). A round lasts a fixed time; rounds of both alternate,
and the figure is the median of their ratios.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from treadle.cli.bench_control.report import Figure, median
from treadle.control import rules
from treadle.control.db.open import open_database
from treadle.control.db.postgres_link import connect_durably
from treadle.control.db.repository import Claimant, Repository
from treadle.control.db.sqlite import connect_file
from treadle.control.db.transaction import load_statements
from treadle.control.events import Bells
from treadle.control.records import (
    AppendRequest,
    Claim,
    CommandRequest,
    CommandType,
    NewEvent,
    RegisterRequest,
    Run,
    RunRequest,
)
from treadle.kit.clock import SystemClock

WRITERS = 16
SIZES = (1, 10, 50, 200)
PAYLOAD = b'{"text":"%s","itemId":"item_1"}' % (b"x" * 160)
AT = "2026-01-01T00:00:00.000Z"
PROFILE = "bench-claims"
RAW_POSTGRES = """INSERT INTO run_events
    (run_id, seq, epoch, producer_seq, type, command_id, at, payload)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[],
        $6::text[], $7::text[], $8::text[])"""

Batch = Callable[[int, int], Awaitable[None]]
"""Write the nth batch of a writer."""


async def measure(
    kind: str, url: str | None, folder: Path, seconds: float, rounds: int
) -> list[Figure]:
    """All figures of one database."""
    repository = await open_database(url, folder, SystemClock(), Bells())
    try:
        figures = await _appends(kind, repository, (url, folder), seconds, rounds)
        for limit, claimers in ((1, 16), (10, 8)):
            rate = await _claim_rate(repository, limit, claimers, seconds)
            target = {("postgresql", 1): 2500, ("postgresql", 10): 8000}.get((kind, limit))
            name = f"{kind}: claims, {limit} at a time, {claimers} runners"
            figures.append(Figure(name, rate, "claims/s", ">=" if target else None, target))
        return figures
    finally:
        await repository.close()


async def _appends(
    kind: str, repository: Repository, place: tuple[str | None, Path], seconds: float, rounds: int
) -> list[Figure]:
    url, folder = place
    figures: list[Figure] = []
    for size in SIZES:
        raw_rates: list[float] = []
        rates: list[float] = []
        for number in range(rounds):
            prefix = f"raw-{size}-{number}"
            if url is None:
                raw_rates.append(
                    await asyncio.to_thread(_raw_sqlite, folder, prefix, size, seconds)
                )
            else:
                raw_rates.append(await _raw_postgres(url, prefix, size, seconds))
            rates.append(await _ours(repository, size, seconds))
        ratio = median(ours / raw for ours, raw in zip(rates, raw_rates, strict=True))
        note = f"{median(rates):,.0f} of {median(raw_rates):,.0f} events/s"
        name = f"{kind}: fenced append / raw, {size} per batch"
        figures.append(Figure(name, ratio, "", ">=", 0.85, note))
    return figures


async def _together(write: Batch, writers: int, size: int, seconds: float) -> float:
    """Rows per second of writers that write batch after batch for a while."""
    counts = [0] * writers
    began = time.perf_counter()
    until = began + seconds

    async def work(writer: int) -> None:
        while time.perf_counter() < until:
            await write(writer, counts[writer])
            counts[writer] += 1

    async with asyncio.TaskGroup() as group:
        for writer in range(writers):
            group.create_task(work(writer))
    return sum(counts) * size / (time.perf_counter() - began)


async def _ours(repository: Repository, size: int, seconds: float) -> float:
    claims = await claimed_runs(repository, WRITERS)
    events = [NewEvent("command_output", msgspec.Raw(PAYLOAD)) for _ in range(size)]

    async def write(writer: int, number: int) -> None:
        claim = claims[writer]
        request = AppendRequest(claim.epoch, number * size + 1, events)
        await repository.append(claim.run_id, claim.token, request)

    rate = await _together(write, WRITERS, size, seconds)
    if findings := await repository.verify_run(claims[0].run_id):
        raise RuntimeError(f"the log is damaged: {findings}")
    return rate


async def claimed_runs(repository: Repository, count: int) -> list[Claim]:
    """Runs of their own, each claimed for long."""
    await repository.register_runner(RegisterRequest(id="bench"))
    claims: list[Claim] = []
    for _ in range(count):
        stored = await repository.create_run(rules.make_spec(RunRequest()), None)
        run_id = json.loads(stored.body)["id"]
        claims.append(await repository.claim(run_id, Claimant("bench", None, 600_000)))
    return claims


async def _raw_postgres(url: str, prefix: str, size: int, seconds: float) -> float:
    """One statement and one commit per batch, with arrays: the fastest plain form."""
    connections = [await connect_durably(url) for _ in range(WRITERS)]
    text = PAYLOAD.decode()

    async def write(writer: int, number: int) -> None:
        seqs = list(range(number * size + 1, (number + 1) * size + 1))
        ids, ones, types = [f"{prefix}-{writer}"] * size, [1] * size, ["command_output"] * size
        rows = (ids, seqs, ones, seqs, types, [None] * size, [AT] * size, [text] * size)
        await connections[writer].fetch(RAW_POSTGRES, *rows)

    try:
        return await _together(write, WRITERS, size, seconds)
    finally:
        for connection in connections:
            await connection.close()


def _raw_sqlite(folder: Path, prefix: str, size: int, seconds: float) -> float:
    connection = connect_file(folder / "manager.db")
    connection.execute("PRAGMA foreign_keys=OFF")  # these rows belong to no run
    sql = load_statements("sqlite")["insert_event"]
    text, written = PAYLOAD.decode(), 0
    began = time.perf_counter()
    until = began + seconds
    while time.perf_counter() < until:
        rows = [
            (prefix, written + n, 1, written + n, "command_output", None, AT, text)
            for n in range(size)
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql, rows)
        connection.execute("COMMIT")
        written += size
    rate = written / (time.perf_counter() - began)
    connection.close()
    return rate


async def _claim_rate(repository: Repository, limit: int, claimers: int, seconds: float) -> float:
    """Pool claims per second until the backlog is used up or time is."""
    backlog = int(4000 * seconds)
    await _make_backlog(repository, backlog)
    for number in range(claimers):
        await repository.register_runner(RegisterRequest(id=f"claimer-{number}"))
    counts = [0] * claimers
    began = time.perf_counter()

    async def take(number: int) -> None:
        claimant = Claimant(f"claimer-{number}", None, 600_000)
        while taken := await repository.claim_waiting(claimant, PROFILE, limit):
            counts[number] += len(taken)

    async with asyncio.TaskGroup() as group:
        for number in range(claimers):
            group.create_task(take(number))
    rate = sum(counts) / (time.perf_counter() - began)
    if sum(counts) != backlog:
        raise RuntimeError(f"{backlog} runs waited, {sum(counts)} were claimed")
    return rate


async def _make_backlog(repository: Repository, count: int) -> None:
    spec = rules.make_spec(RunRequest(backend_profile=PROFILE))
    turn = CommandRequest(type=CommandType.TURN, payload={"prompt": "hi"})

    async def make(share: int) -> None:
        for _ in range(share):
            run = msgspec.json.decode((await repository.create_run(spec, None)).body, type=Run)
            await repository.create_command(run.id, turn, b'{"prompt":"hi"}', None)

    makers = 32
    async with asyncio.TaskGroup() as group:
        for maker in range(makers):
            group.create_task(make(count // makers + (maker < count % makers)))
