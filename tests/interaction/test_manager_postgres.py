"""Managers that share a PostgreSQL database, and what happens when that goes away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from support.postgres import OwnServer, Server, Session, find_binaries
from treadle.control.access import Scope
from treadle.control.db import postgres_hints
from treadle.control.db.migrate import known_migrations
from treadle.control.db.open import find_missing_migrations, open_database
from treadle.control.db.postgres_link import Link, positional
from treadle.control.db.repository import Claimant
from treadle.control.db.transaction import load_statements
from treadle.control.events import Bells
from treadle.control.faults import DatabaseUnusable
from treadle.control.http.server import ManagerOptions, RunningManager, serve
from treadle.control.records import CommandRequest, CommandType, RegisterRequest, RunRequest
from treadle.control.rules import make_spec
from treadle.kit.clock import SystemClock

BATCH = 3


class Api:
    """A client of one manager."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, path: str, body: Any = None, token: str = "none") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.post(f"/api/v1/{path}", json=body or {}, headers=headers)

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.http.get(f"/api/v1/{path}", params=query)
        assert answer.is_success, answer.text
        return answer.json()

    async def claimed_run(self, runner: str) -> dict[str, Any]:
        run = (await self.post("runs")).json()
        await self.post("runners/register", {"id": runner})
        answer = await self.post(f"runs/{run['id']}/claim", {"runnerId": runner})
        assert answer.is_success, answer.text
        return answer.json()

    async def append(
        self, claim: dict[str, Any], first: int, count: int = BATCH, *, moving: bool = False
    ) -> httpx.Response:
        """Lines of output; `moving`: and an event that moves the run's fold."""
        events: list[Any] = [
            {"type": "command_output", "payload": {"text": f"line {number}"}}
            for number in range(first, first + count)
        ]
        if moving:
            events.append({"type": "error", "payload": {"willRetry": True}})
        body = {"epoch": claim["epoch"], "firstProducerSeq": first, "events": events}
        return await self.post(f"runs/{claim['runId']}/events", body, claim["token"])


class Managers:
    """Managers of one test, on one database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.running: list[tuple[RunningManager, httpx.AsyncClient]] = []

    async def start(self) -> Api:
        folder = self.folder / f"manager-{len(self.running)}"
        manager = await serve(ManagerOptions(data_folder=folder, database_url=self.url))
        http = httpx.AsyncClient(base_url=manager.address, timeout=30)
        self.running.append((manager, http))
        return Api(http)

    async def stop(self) -> None:
        for manager, http in self.running:
            await http.aclose()
            await manager.stop()

    async def check(self, claim: dict[str, Any], last: int) -> None:
        """The log has the lines 1 to `last`, each once and in order, and agrees with its fold."""
        repository = self.running[-1][0].repository
        page = await repository.read_events(claim["runId"], 0, 1000)
        texts = [
            msgspec.json.decode(event.payload)["text"]
            for event in page.items
            if event.type == "command_output"
        ]
        assert texts == [f"line {number}" for number in range(1, last + 1)]
        assert await repository.verify_run(claim["runId"]) == []


@pytest.fixture
async def managers(postgres_url: str, tmp_path: Path) -> AsyncIterator[Managers]:
    managers = Managers(postgres_url, tmp_path)
    yield managers
    await managers.stop()


async def parked(api: Api, path: str, **query: Any) -> asyncio.Task[Any]:
    """A read that waits at the manager for something new."""
    reading = asyncio.create_task(api.get(path, waitMs=30_000, **query))
    await asyncio.sleep(0.3)
    assert not reading.done()
    return reading


async def test_a_reader_at_one_manager_wakes_when_another_one_writes(
    managers: Managers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_hints, "POLL_SECONDS", 3600.0)
    one, two = await managers.start(), await managers.start()
    claim = await one.claimed_run("a")
    path = f"runs/{claim['runId']}"
    reading = await parked(two, f"{path}/events", afterSeq=claim["lastSeq"])
    commanded = await parked(two, f"{path}/commands")
    await one.append(claim, 1)
    async with asyncio.timeout(2):
        assert [event["producerSeq"] for event in (await reading)["items"]] == [1, 2, 3]
    await one.post(f"{path}/commands", {"type": "turn", "payload": {"prompt": "hi"}})
    async with asyncio.timeout(2):
        assert [command["cmdSeq"] for command in (await commanded)["items"]] == [1]


async def test_a_reader_wakes_by_the_poll_alone_when_hints_are_lost(
    managers: Managers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_hints.Hints, "_hear", lambda *_: None)
    one, two = await managers.start(), await managers.start()
    claim = await one.claimed_run("a")
    path = f"runs/{claim['runId']}/events"
    reading = await parked(two, path, afterSeq=claim["lastSeq"])
    await one.append(claim, 1)
    async with asyncio.timeout(3):
        assert len((await reading)["items"]) == BATCH


async def test_a_pool_runner_at_one_manager_gets_what_was_asked_of_another(
    managers: Managers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_hints, "POLL_SECONDS", 3600.0)
    one, two = await managers.start(), await managers.start()
    await two.post("runners/register", {"id": "pool"})
    body = {"runnerId": "pool", "waitMs": 30_000, "backendProfile": "only-here"}
    claiming = asyncio.create_task(two.post("claims", body))
    await asyncio.sleep(0.3)
    run = (await one.post("runs", {"backendProfile": "only-here"})).json()
    await one.post(f"runs/{run['id']}/commands", {"type": "turn", "payload": {"prompt": "hi"}})
    async with asyncio.timeout(2):
        assert [claim["runId"] for claim in (await claiming).json()["items"]] == [run["id"]]


async def test_runners_racing_at_two_managers_get_each_run_once(managers: Managers) -> None:
    apis = [await managers.start(), await managers.start()]
    wanted: set[str] = set()
    for number in range(12):
        run = (await apis[number % 2].post("runs", {"backendProfile": "race"})).json()
        wanted.add(run["id"])
        turn = {"type": "turn", "payload": {"prompt": "hi"}}
        await apis[number % 2].post(f"runs/{run['id']}/commands", turn)
    for name in range(6):
        await apis[0].post("runners/register", {"id": f"r{name}"})

    async def take(name: int) -> list[str]:
        body = {"runnerId": f"r{name}", "max": 3, "backendProfile": "race", "waitMs": 200}
        taken: list[str] = []
        while items := (await apis[name % 2].post("claims", body)).json()["items"]:
            assert all(claim["epoch"] == 1 for claim in items)
            taken += [claim["runId"] for claim in items]
        return taken

    taken = await asyncio.gather(*(take(name) for name in range(6)))
    assert sorted(run_id for runs in taken for run_id in runs) == sorted(wanted)


async def test_the_same_key_at_two_managers_makes_one_run(managers: Managers) -> None:
    apis = [await managers.start(), await managers.start()]
    body = {"idempotencyKey": "once", "tenantId": "key-test"}
    answers = await asyncio.gather(*(apis[n % 2].post("runs", body) for n in range(8)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len((await apis[0].get("runs", tenantId="key-test"))["items"]) == 1


async def test_managers_changing_the_same_runs_in_any_order_never_stand_still(
    managers: Managers,
) -> None:
    apis = [await managers.start(), await managers.start()]
    runs = [(await apis[0].post("runs")).json()["id"] for _ in range(6)]

    async def command(api: Api, run_id: str) -> int:
        body = {"type": "turn", "payload": {"prompt": "hi"}}
        answer = await api.post(f"runs/{run_id}/commands", body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["cmdSeq"])

    async with asyncio.timeout(20):
        for _ in range(4):
            there = [command(apis[0], run_id) for run_id in runs]
            back = [command(apis[1], run_id) for run_id in reversed(runs)]
            await asyncio.gather(*there, *back)
    for run_id in runs:
        page = await apis[1].get(f"runs/{run_id}/commands")
        assert [item["cmdSeq"] for item in page["items"]] == list(range(1, 9))
        assert await managers.running[0][0].repository.verify_run(run_id) == []


async def test_sessions_that_the_server_ends_lose_double_or_reorder_nothing(
    managers: Managers, postgres_server: Server
) -> None:
    apis = [await managers.start(), await managers.start()]
    claims = [await apis[n % 2].claimed_run(f"w{n}") for n in range(4)]
    enough = asyncio.Event()
    acknowledged = [0] * len(claims)
    refused = 0

    async def write(index: int) -> None:
        nonlocal refused
        turn = index
        while acknowledged[index] < 150:
            # Any manager will do, and the same batch again after a refusal.
            answer = await apis[turn % 2].append(claims[index], acknowledged[index] + 1)
            if answer.status_code == 503:
                refused += 1
                turn += 1
                await asyncio.sleep(0.05)
                continue
            assert answer.status_code == 200, answer.text
            acknowledged[index] = answer.json()["ackedProducerSeq"]
            if min(acknowledged) > 20:
                enough.set()

    async def cut() -> None:
        await enough.wait()
        ended = 0
        while ended < 15:
            ended += postgres_server.cut_sessions(managers.url)
            await asyncio.sleep(0.05)

    async with asyncio.timeout(30):
        await asyncio.gather(cut(), *(write(index) for index in range(len(claims))))
    for claim, last in zip(claims, acknowledged, strict=True):
        await managers.check(claim, last)


async def test_a_commit_whose_answer_is_lost_is_acknowledged_once_when_sent_again(
    managers: Managers, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await managers.start()
    claim = await api.claimed_run("a")
    assert (await api.append(claim, 1)).status_code == 200
    real, lost = Link.execute, list[str]()

    def lossy(link: Link, sql: str, parameters: Any = {}, /) -> Any:  # noqa: B006
        answer = real(link, sql, parameters)
        if sql == "COMMIT" and not lost and link is writer:
            lost.append(sql)
            link.drop()
            raise ConnectionResetError("cut after the commit")
        return answer

    metered = managers.running[0][0].repository
    writer = metered._inner._writer._opened._link  # type: ignore[attr-defined]
    monkeypatch.setattr(Link, "execute", lossy)
    assert (await api.append(claim, 4, moving=True)).status_code == 503
    assert lost
    again = await api.append(claim, 4, moving=True)
    assert (again.json()["duplicate"], again.json()["ackedProducerSeq"]) == (True, 7)
    await managers.check(claim, 6)


@pytest.mark.parametrize("stored", [True, False])
async def test_an_append_whose_connection_is_cut_finds_out_by_itself_whether_it_was_stored(
    managers: Managers, stored: bool
) -> None:
    api = await managers.start()
    claim = await api.claimed_run("a")
    assert (await api.append(claim, 1)).status_code == 200
    lane = managers.running[0][0].repository._inner._lane  # type: ignore[attr-defined]
    (line,) = [line for line in lane._lines if line._connection is not None]
    connection = line._connection

    class Lossy:
        async def fetch(self, *arguments: Any) -> None:
            if stored:
                assert len(await connection.fetch(*arguments)) == 1
            connection.terminate()
            raise ConnectionResetError("cut")

        def is_closed(self) -> bool:
            return connection.is_closed()

        def terminate(self) -> None:
            connection.terminate()

    line._connection = Lossy()
    answer = await api.append(claim, 4)
    assert (answer.json()["duplicate"], answer.json()["ackedProducerSeq"]) == (stored, 6)
    assert line._connection is None
    assert (await api.append(claim, 7)).json()["ackedProducerSeq"] == 9
    await managers.check(claim, 9)


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    server = OwnServer(find_binaries())
    yield server
    server.remove()


async def test_a_server_that_crashes_keeps_what_was_acknowledged_and_leases_get_their_grace(
    own_server: OwnServer, tmp_path: Path
) -> None:
    managers = Managers(own_server.url, tmp_path)
    try:
        api = await managers.start()
        claim = await api.claimed_run("a")
        body = {"runnerId": "a", "leaseMs": 1500}
        claim = (await api.post(f"runs/{claim['runId']}/claim", body)).json()
        assert (await api.append(claim, 1)).status_code == 200
        own_server.kill()
        refused = await api.append(claim, 4)
        assert refused.status_code == 503
        assert "127.0.0.1" not in refused.text
        assert (await api.http.get("/health/ready")).status_code == 503
        await asyncio.sleep(1.5)  # the lease would be over by now
        own_server.start()
        await api.post("runners/register", {"id": "b"})
        other = {"runnerId": "b"}
        async with asyncio.timeout(10):
            while (taken := await api.post(f"runs/{claim['runId']}/claim", other)).status_code in (
                404,
                503,
            ):
                await api.post("runners/register", {"id": "b"})
        assert taken.json()["code"] == "lease-held"
        assert (await api.append(claim, 4)).json()["ackedProducerSeq"] == 6
        await managers.check(claim, 6)
    finally:
        await managers.stop()


async def test_what_the_database_cannot_store_is_refused_and_harms_nobody_else(
    managers: Managers,
) -> None:
    api = await managers.start()
    claim = await api.claimed_run("a")
    good = [api.append(claim, 1)]
    bad = [api.post("runs", {"tenantId": "a\0b"}), api.post("runners/register", {"id": "\0"})]
    answers = await asyncio.gather(*good, *bad)
    assert [answer.status_code for answer in answers] == [200, 400, 400]
    assert "U+0000" in answers[1].text
    assert (await api.http.get("/api/v1/runs/a%00b")).status_code == 400
    await managers.check(claim, BATCH)


# Runs as a manager sees them that stands still, while this lock is held, wherever it looks at one.
SLOW_RUNS = """
CREATE SCHEMA slow
    CREATE VIEW slow.schema_migrations AS SELECT * FROM public.schema_migrations;
CREATE FUNCTION slow.pass() RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(42) ; RETURN true ; END';
CREATE VIEW slow.runs AS SELECT * FROM public.runs WHERE slow.pass()
"""


async def test_a_run_that_moves_while_a_pool_claim_looks_at_it_is_claimed_as_it_is_then(
    postgres_url: str, tmp_path: Path
) -> None:
    fast = await open_database(postgres_url, tmp_path / "fast", SystemClock(), Bells())
    session = Session(postgres_url)
    for sql in SLOW_RUNS.split(";\n"):
        session.run(sql)
    slow_url = f"{postgres_url}?search_path=slow,public"
    slow = await open_database(slow_url, tmp_path / "slow", SystemClock(), Bells())
    try:
        spec = make_spec(RunRequest(tenant_id="t"))
        run_id = msgspec.json.decode((await fast.create_run(spec, None)).body)["id"]
        await fast.register_runner(RegisterRequest(id="r"), Scope("t"))
        turn = CommandRequest(CommandType.TURN, {"prompt": "hi"})
        await fast.create_command(run_id, turn, b'{"prompt":"hi"}', None)
        session.run("SELECT pg_advisory_lock(42)")
        claimant = Claimant("r", None, 60_000, Scope("t"))
        claiming = asyncio.create_task(slow.claim_waiting(claimant, None, 1))
        async with asyncio.timeout(10):
            while not session.run("SELECT 1 FROM pg_locks WHERE objid = 42 AND NOT granted"):
                await asyncio.sleep(0.01)
            await fast.create_command(run_id, turn, b'{"prompt":"hi"}', None)
            session.run("SELECT pg_advisory_unlock(42)")
            (claim,) = await claiming
        assert (claim.cmd_last, len(claim.commands)) == (2, 2)
        assert await fast.verify_run(run_id) == []
    finally:
        session.close()
        await slow.close()
        await fast.close()


def scans_of(node: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Tables that a plan reads, and whether by key."""
    below = node.get("Plans", [])
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        by_key = any("Index Cond" in each for each in (node, *below))
        by_key |= node.get("Index Name") == "heads_waiting"  # holds only what is looked for
        yield node["Relation Name"], by_key
    for each in below:
        yield from scans_of(each)


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("append_plainly", {"run_heads"}),
        ("read_ahead", {"run_heads", "runs", "commands", "runners"}),
        ("read_pages", {"run_heads", "run_events"}),
        ("read_watched", {"run_heads"}),
        ("write_all", {"run_heads", "runs", "runners"}),
    ],
)
async def test_what_is_planned_on_a_young_database_reads_by_key_when_it_has_grown(
    postgres_server: Server, tmp_path: Path, name: str, tables: set[str]
) -> None:
    # A database of its own: the server counts the rows of older ones whenever it likes to.
    url = postgres_server.create_database()
    repository = await open_database(url, tmp_path, SystemClock(), Bells())
    await repository.close()
    link = Link(url)
    try:
        await asyncio.to_thread(link.open)
        statement, names = positional(load_statements("postgres")[name])
        nulls = ", ".join("NULL" for _ in names)
        for sql in (f"PREPARE it AS {statement}", "SET plan_cache_mode = force_generic_plan"):
            await asyncio.to_thread(link.execute, sql)
        explain = f"EXPLAIN (FORMAT JSON) EXECUTE it({nulls})"
        row = (await asyncio.to_thread(link.execute, explain)).fetchone()
        scans = list(scans_of(msgspec.json.decode(row["QUERY PLAN"])[0]["Plan"]))
    finally:
        await asyncio.to_thread(link.close)
        postgres_server.drop_database(url)
    assert {table for table, _ in scans} == tables
    assert [table for table, by_key in scans if not by_key] == []


async def test_managers_that_start_at_once_on_an_empty_database_migrate_it_once(
    postgres_server: Server, tmp_path: Path
) -> None:
    url = postgres_server.create_database()
    all_names = [migration.name for migration in known_migrations("postgres")]
    assert await find_missing_migrations(url, tmp_path) == all_names
    opening = [open_database(url, tmp_path, SystemClock(), Bells()) for _ in range(3)]
    for repository in await asyncio.gather(*opening):
        await repository.close()
    assert await find_missing_migrations(url, tmp_path) == []
    postgres_server.drop_database(url)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("INSERT INTO schema_migrations VALUES (99, 'x', 'x', 0)", "start a newer release"),
        ("UPDATE schema_migrations SET checksum = 'other'", "differs from the one"),
    ],
)
async def test_a_schema_that_is_not_ours_is_refused(
    postgres_server: Server, tmp_path: Path, change: str, told: str
) -> None:
    url = postgres_server.create_database()
    repository = await open_database(url, tmp_path, SystemClock(), Bells())
    await repository.close()
    session = Session(url)
    session.run(change)
    session.close()
    with pytest.raises(DatabaseUnusable, match=told):
        await open_database(url, tmp_path, SystemClock(), Bells())
    postgres_server.drop_database(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:secret@127.0.0.1:1/x", r"No PostgreSQL server answers at 127.0.0.1:1 "),
        ("postgresql://u:secret@127.0.0.1:notaport/x", "write it as postgresql://"),
        ("mysql://u:secret@h/x", "give sqlite:///PATH or postgresql://"),
        ("postgresql://u:secret@no-such-host.invalid/x", "No PostgreSQL server answers at"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_said_plainly(
    tmp_path: Path, url: str, told: str
) -> None:
    with pytest.raises(DatabaseUnusable, match=told) as caught:
        await open_database(url, tmp_path, SystemClock(), Bells())
    assert "secret" not in str(caught.value)


async def test_a_database_or_user_that_does_not_exist_is_named_with_the_remedy(
    postgres_url: str, tmp_path: Path
) -> None:
    url = postgres_url.rsplit("/", 1)[0] + "/missing"
    with pytest.raises(DatabaseUnusable, match=r"has no database missing; create it \(createdb"):
        await open_database(url, tmp_path, SystemClock(), Bells())
