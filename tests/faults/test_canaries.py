"""Secrets that an agent tells in every form and at every cut show nowhere but in its own home.

Random canaries are the credentials of a run; its backend tells each of them in plain, base64, URL,
JSON and hex, whole and cut in two, in commands, output, messages and errors. Then every byte of
database, write-ahead log, logs, metrics, pages, streams and spool is searched (invariant I10).

At length (`make test-faults`) there are 10,000 of them, half with each database, a lot for each
of many runners; in short there is one small lot.
"""

import base64
import itertools
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from faults.checker import check
from faults.history import History, Leak
from faults.world import World, make_world
from fleet.harness import FAKE_ARGS
from support.command_line import Home, start
from treadle.kit.redact import MARK
from treadle.runner.setup import SPOOL_FOLDER

AT_LENGTH = os.environ.get("TREADLE_TEST_FAULTS") == "all"
PARTS, LOTS, CANARIES = (5, 5, 200) if AT_LENGTH else (1, 1, 20)
"""Tests with each kind of database, runners in each, and what each of them must not tell."""
DEATHS = 5
"""Of so many runners, one dies and leaves its spool to the next."""
HARD = '+/=?& "\\é'
"""Characters that each encoding writes in its own way."""
PART_CHARS = 12
"""So much of a canary in one piece is a leak too."""


def make_canaries(rng: random.Random) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

    def word(count: int) -> str:
        return "".join(rng.choices(letters, k=count))

    plain = [word(40) for _ in range(CANARIES // 2)]
    hard = [f"{word(14)}{rng.choice(HARD)}{word(14)}" for _ in range(CANARIES - len(plain))]
    return plain + hard


def searched_forms(canary: str) -> Iterator[tuple[str, bytes]]:
    """What must be nowhere: parts of each form that are long enough to be known again."""
    raw = canary.encode()
    for name, text in {
        "plain": canary,
        "url": quote(canary, safe=""),
        "json": json.dumps(canary)[1:-1],
        "hex": raw.hex(),
    }.items():
        yield f"first part of {name}", text.encode()[:PART_CHARS]
        yield f"last part of {name}", text.encode()[-PART_CHARS:]
    for shift in range(3):
        # Without the characters that neighbours share.
        inner = base64.b64encode(b"\0" * shift + raw)[4:-4]
        for part in (inner[:PART_CHARS], inner[PART_CHARS : 2 * PART_CHARS]):
            yield "base64", part
            yield "base64 for URLs", part.replace(b"+", b"-").replace(b"/", b"_")


def find_leaks(places: Iterable[tuple[str, bytes]], canaries: list[str]) -> Iterator[Leak]:
    """Parts of canaries in what is at the places; all are looked for at once."""
    wanted: Mapping[bytes, str] = {
        part: form for canary in canaries for form, part in searched_forms(canary)
    }
    assert {len(part) for part in wanted} == {PART_CHARS}
    for place, content in places:
        for at in range(len(content) - PART_CHARS + 1):
            part = content[at : at + PART_CHARS]
            if part in wanted:
                yield Leak(place, wanted[part])


@pytest.fixture(params=["sqlite", "postgres"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    rng = random.Random(1)
    async with make_world(tmp_path / "world", rng, kind=request.param, managers=1) as world:
        yield world


async def run_telling_runner(world: World, run_id: str, home: Path, points: str = "") -> str:
    """A runner whose backend tells all it knows; what the runner said."""
    variables = {"TREADLE_FAKE_BACKEND_MODE": "tell-secrets", "TREADLE_FAULT_POINTS": points}
    arguments = ["runner", "once", "--manager-url", world.managers[0].direct_url]
    arguments += ["--run-id", run_id, "--one-shot", "--codex-home", str(home)]
    arguments += ["--lease-ms", "1000", "--claim-retry-interval-ms", "50"]
    arguments += ["--codex-command", sys.executable, *(f"--codex-arg={arg}" for arg in FAKE_ARGS)]
    running = await start(Home(home.parent, variables), *arguments)
    try:
        done = await running.finish()
    finally:
        await running.kill()
    return done.out + done.err


def files_below(folder: Path, since: float = 0.0) -> Iterator[tuple[str, bytes]]:
    """Content of the files that were written to, without the zeros at the end of a prepared one."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path.stat().st_mtime >= since:
            yield str(path), path.read_bytes().rstrip(b"\0")


class Lot:
    """One run, and what its agent must not tell."""

    def __init__(self, world: World, folder: Path, number: int) -> None:
        self.canaries = make_canaries(random.Random())
        self.url = world.managers[0].direct_url
        self.number = number
        self.marks = 0
        self._world = world
        self._home = folder / f"codex-{number}"
        self._home.mkdir()
        secrets = {f"KEY_{place}": canary for place, canary in enumerate(self.canaries)}
        (self._home / "auth.json").write_text(json.dumps(secrets))
        (self._home / "config.toml").write_text('model = "fake-model"\n')

    async def tell(self, http: httpx.AsyncClient) -> list[Leak]:
        """Have all of it told; what shows of it in the run's pages, streams, spool and messages."""
        run = {"workspaceRef": {"kind": "host-path", "path": str(self._home.parent)}}
        run_id = (await http.post("/api/v1/runs", json=run)).json()["id"]
        turn = {"type": "turn", "payload": {"prompt": "tell"}}
        assert (await http.post(f"/api/v1/runs/{run_id}/commands", json=turn)).is_success
        places: list[tuple[str, bytes]] = []
        if self.number % DEATHS == 0:
            # The first one dies with part of it in its spool, the second one tells it again.
            died = await run_telling_runner(
                self._world, run_id, self._home, "runner.report.sending=kill@8"
            )
            spool = b"".join(content for _, content in files_below(self._home / SPOOL_FOLDER))
            assert MARK.encode() in spool
            places += [("spool", spool), ("first runner", died.encode())]
        said = await run_telling_runner(self._world, run_id, self._home)
        places.append(("runner", said.encode()))
        result = (await http.get(f"/api/v1/runs/{run_id}/result")).json()
        assert result["terminalStatus"] == "failed", said
        assert MARK in result["failureMessage"]
        for path in ("", "/result", "/commands", "/stream"):
            places.append((f"GET {path}", (await http.get(f"/api/v1/runs/{run_id}{path}")).content))
        texts: list[str] = []
        path = f"/api/v1/runs/{run_id}/events?limit=1000&afterSeq="
        after = 0
        while items := (await http.get(f"{path}{after}")).json()["items"]:
            after = items[-1]["seq"]
            texts += [str(item["payload"].get("text", "")) for item in items]
        places.append(("texts of the run, joined", "".join(texts).encode()))
        self.marks = sum(content.count(MARK.encode()) for _, content in places)
        return list(find_leaks(places, self.canaries))


@pytest.mark.timeout(0 if AT_LENGTH else 90)
@pytest.mark.parametrize("part", range(PARTS))
async def test_no_byte_of_a_secret_is_kept_or_shown(
    world: World, tmp_path: Path, part: int
) -> None:
    del part
    began = time.time() - 1
    leaks: list[Leak] = []
    lots = [Lot(world, tmp_path, number) for number in range(LOTS)]
    url = world.managers[0].direct_url
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        for lot in lots:
            leaks += await lot.tell(http)
            assert lot.marks > 10 * CANARIES
        metrics = (await http.get("/metrics")).content
    files = [files_below(tmp_path / "world")]
    if world.database.server is not None:
        files.append(files_below(Path(world.database.server._folder), began))
    await world.managers[0].stop()
    log = "".join(world.managers[0].stderr).encode()
    places = itertools.chain([("GET /metrics", metrics), ("the manager's log", log)], *files)
    leaks += find_leaks(places, [canary for lot in lots for canary in lot.canaries])
    assert [str(violation) for violation in check(History(leaks=leaks))] == []


def test_the_search_finds_what_it_is_for():
    canary = make_canaries(random.Random(3))[-1]
    for form in (
        canary,
        json.dumps(canary),
        quote(canary, safe=""),
        canary.encode().hex(),
        base64.b64encode(b"user:" + canary.encode() + b"\n").decode(),
        canary[: PART_CHARS + 2],
    ):
        found = list(find_leaks([("log", f"before {form} after".encode())], [canary]))
        assert found, form
    assert list(find_leaks([("log", b"nothing of the kind")], [canary])) == []
