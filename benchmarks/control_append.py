"""How fast the control plane takes events and gives runs away, on SQLite and PostgreSQL.

Measures, per database: plain INSERTs of the same rows in transactions of the size that group
commit makes; fenced appends through the repository; fenced appends through HTTP to a manager in a
process of its own; pool claims. The clients run on the same machine and take their share of it.

    python benchmarks/control_append.py [--database postgresql://...] [--events 20000]

Without --database a PostgreSQL server from the dev group is started, with fsync on.
"""

# ruff: noqa: T201, TID251, E402, D103 - a script that prints and that stands outside the package

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import aiohttp
import msgspec

from support.postgres import OwnServer, Server, find_binaries
from treadle.control import rules
from treadle.control.db.open import open_database
from treadle.control.db.repository import Claimant, Repository
from treadle.control.events import Bells
from treadle.control.records import (
    AppendRequest,
    CommandRequest,
    NewEvent,
    RegisterRequest,
    RunRequest,
)
from treadle.kit.clock import SystemClock

APPENDERS = 32
BATCH = 20
CLAIMS = 400
CLAIMERS = 8
PAYLOAD = b'{"text":"%s","itemId":"item_1"}' % (b"x" * 160)


async def measure_append(repository: Repository, events: int) -> float:
    """Events per second through the repository."""
    claims = []
    await repository.register_runner(RegisterRequest(id="bench"))
    for _ in range(APPENDERS):
        stored = await repository.create_run(rules.make_spec(RunRequest()), None)
        run_id = json.loads(stored.body)["id"]
        claims.append(await repository.claim(run_id, Claimant("bench", None, 600_000)))
    batch = [NewEvent("command_output", msgspec.Raw(PAYLOAD)) for _ in range(BATCH)]
    rounds = events // (APPENDERS * BATCH)

    async def write(claim: Any) -> None:
        for number in range(rounds):
            request = AppendRequest(claim.epoch, number * BATCH + 1, batch)
            await repository.append(claim.run_id, claim.token, request)

    began = time.perf_counter()
    await asyncio.gather(*(write(claim) for claim in claims))
    spent = time.perf_counter() - began
    for claim in claims[:2]:
        assert await repository.verify_run(claim.run_id) == []
    return rounds * APPENDERS * BATCH / spent


async def measure_claims(repository: Repository) -> float:
    """Pool claims per second, each of one run."""
    turn = CommandRequest(type=msgspec.convert("turn", CommandRequest.__annotations__["type"]))
    for _ in range(CLAIMS):
        spec = rules.make_spec(RunRequest(backend_profile="bench-claims"))
        stored = await repository.create_run(spec, None)
        run_id = json.loads(stored.body)["id"]
        await repository.create_command(run_id, turn, b'{"prompt":"hi"}', None)
    for number in range(CLAIMERS):
        await repository.register_runner(RegisterRequest(id=f"c{number}"))
    taken = 0

    async def take(number: int) -> None:
        nonlocal taken
        claimant = Claimant(f"c{number}", None, 600_000)
        while claims := await repository.claim_waiting(claimant, "bench-claims", 1):
            taken += len(claims)

    began = time.perf_counter()
    await asyncio.gather(*(take(number) for number in range(CLAIMERS)))
    spent = time.perf_counter() - began
    assert taken == CLAIMS
    return CLAIMS / spent


async def measure_http(url: str | None, folder: Path, events: int) -> float:
    """Events per second through a manager of its own process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests/support/manager_process.py"),
        str(folder),
        *([url] if url else []),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    rounds = events // (APPENDERS * BATCH)
    event = b'{"type":"command_output","payload":' + PAYLOAD + b"}"

    async with aiohttp.ClientSession(address) as http:

        async def post(path: str, body: Any, token: str = "none") -> Any:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {token}"}
            async with http.post(f"/api/v1/{path}", data=data, headers=headers) as answer:
                content = await answer.read()
                assert answer.status < 300, content
                return json.loads(content)

        await post("runners/register", {"id": "bench"})
        claims = []
        for _ in range(APPENDERS):
            run = await post("runs", {})
            claims.append(await post(f"runs/{run['id']}/claim", {"runnerId": "bench"}))

        async def write(claim: Any) -> None:
            for number in range(rounds):
                head = b'{"epoch":%d,"firstProducerSeq":%d,"events":[' % (
                    claim["epoch"],
                    number * BATCH + 1,
                )
                body = head + b",".join([event] * BATCH) + b"]}"
                await post(f"runs/{claim['runId']}/events", body, claim["token"])

        began = time.perf_counter()
        await asyncio.gather(*(write(claim) for claim in claims))
        spent = time.perf_counter() - began
    process.terminate()
    await process.wait()
    return rounds * APPENDERS * BATCH / spent


def raw_rows(count: int, start: int) -> list[tuple[Any, ...]]:
    at, text = "2026-01-01T00:00:00.000Z", PAYLOAD.decode()
    return [
        (f"raw-{number % APPENDERS:04}", start + number, 1, start + number, "command_output", None,
         at, text)
        for number in range(count)
    ]  # fmt: skip


def measure_raw_sqlite(path: Path, events: int) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    sql = "INSERT INTO run_events VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    group = APPENDERS * BATCH
    groups = [raw_rows(group, start) for start in range(0, events, group)]
    began = time.perf_counter()
    for rows in groups:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql, rows)
        connection.execute("COMMIT")
    spent = time.perf_counter() - began
    connection.close()
    return len(groups) * group / spent


async def measure_raw_postgres(url: str, events: int) -> float:
    import asyncpg

    connection = await asyncpg.connect(url)
    sql = "INSERT INTO run_events VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    group = APPENDERS * BATCH
    groups = [raw_rows(group, start) for start in range(0, events, group)]
    began = time.perf_counter()
    for rows in groups:
        async with connection.transaction():
            await connection.executemany(sql, rows)
    spent = time.perf_counter() - began
    await connection.close()
    return len(groups) * group / spent


async def measure(kind: str, url: str | None, folder: Path, events: int) -> None:
    repository = await open_database(url, folder, SystemClock(), Bells())
    appended = await measure_append(repository, events)
    claimed = await measure_claims(repository)
    await repository.close()
    if url is None:
        # The rows have no run of their own; plain inserts do not check that either.
        raw = await asyncio.to_thread(measure_raw_sqlite, folder / "manager.db", events)
    else:
        raw = await measure_raw_postgres(url, events)
    through_http = await measure_http(url, folder, events)
    load = os.getloadavg()[0]
    print(
        f"{kind:10} raw {raw:8.0f} events/s | append {appended:8.0f} events/s "
        f"({appended / raw:.2f} of raw) | http {through_http:8.0f} events/s | "
        f"claims {claimed:6.0f}/s | load {load:.1f} on {os.cpu_count()} cores",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", metavar="URL")
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        await measure("sqlite", None, Path(folder) / "sqlite", options.events)
        own = None if options.database else OwnServer(find_binaries(), "-c", "fsync=on")
        server = Server(options.database or own.url, temporary=own is not None)  # type: ignore[union-attr]
        url = server.create_database()
        try:
            await measure("postgresql", url, Path(folder) / "postgresql", options.events)
        finally:
            server.drop_database(url)
            server.close()
            if own is not None:
                own.remove()


if __name__ == "__main__":
    asyncio.run(main())
