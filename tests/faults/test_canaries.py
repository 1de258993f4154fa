"""Secrets that an agent tells in every form and at every cut show nowhere but in its own home.

Random canaries are the credentials of a run; its backend tells each of them in plain, base64, URL,
JSON and hex, whole and cut in two, in commands, output, messages and errors. Then every byte of
database, write-ahead log, logs, metrics, pages, streams and spool is searched (invariant I10).
"""

import base64
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
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

CANARIES = 20
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
    """What must be nowhere: a whole form, or a part of it that is long enough to be known again."""
    raw = canary.encode()
    for name, text in {
        "plain": canary,
        "url": quote(canary, safe=""),
        "json": json.dumps(canary)[1:-1],
        "hex": raw.hex(),
    }.items():
        yield name, text.encode()
        yield f"first part of {name}", text.encode()[:PART_CHARS]
        yield f"last part of {name}", text.encode()[-PART_CHARS:]
    for shift in range(3):
        # Without the characters that neighbours share.
        inner = base64.b64encode(b"\0" * shift + raw)[4 : -4 if raw else None]
        yield "base64", inner[:24]
        yield "base64 for URLs", inner[:24].replace(b"+", b"-").replace(b"/", b"_")


def find_leaks(places: dict[str, bytes], canaries: list[str]) -> list[Leak]:
    return [
        Leak(place, form)
        for place, content in places.items()
        for canary in canaries
        for form, wanted in searched_forms(canary)
        if wanted in content
    ]


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


def files_below(folder: Path, since: float = 0.0) -> dict[str, bytes]:
    """Content of the files that were written to, without the zeros at the end of a prepared one."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    written = [path for path in files if path.stat().st_mtime >= since]
    return {str(path): path.read_bytes().rstrip(b"\0") for path in written}


@pytest.mark.timeout(90)
async def test_no_byte_of_a_secret_is_kept_or_shown(world: World, tmp_path: Path) -> None:
    canaries = make_canaries(random.Random())
    home = tmp_path / "codex"
    home.mkdir()
    secrets = {f"KEY_{number}": canary for number, canary in enumerate(canaries)}
    (home / "auth.json").write_text(json.dumps(secrets))
    (home / "config.toml").write_text('model = "fake-model"\n')
    places: dict[str, bytes] = {}
    began = time.time() - 1
    url = world.managers[0].direct_url
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        run = {"workspaceRef": {"kind": "host-path", "path": str(tmp_path)}}
        run_id = (await http.post("/api/v1/runs", json=run)).json()["id"]
        turn = {"type": "turn", "payload": {"prompt": "tell"}}
        assert (await http.post(f"/api/v1/runs/{run_id}/commands", json=turn)).is_success
        # The first one dies with part of it in its spool, the second one tells it again.
        died = await run_telling_runner(world, run_id, home, "runner.report.sending=kill@8")
        places["spool"] = b"".join(files_below(home / SPOOL_FOLDER).values())
        assert MARK.encode() in places["spool"]
        said = await run_telling_runner(world, run_id, home)
        places["runner"] = (died + said).encode()
        result = (await http.get(f"/api/v1/runs/{run_id}/result")).json()
        assert result["terminalStatus"] == "failed", said
        for path in ("", "/events?limit=1000", "/result", "/commands", "/stream"):
            places[f"GET {path}"] = (await http.get(f"/api/v1/runs/{run_id}{path}")).content
        places["GET /metrics"] = (await http.get("/metrics")).content
        after = 0
        while items := (await http.get(f"/api/v1/runs/{run_id}/events?afterSeq={after}")).json()[
            "items"
        ]:
            after = items[-1]["seq"]
            texts = [str(item["payload"].get("text", "")) for item in items]
            places[f"texts up to {after}, joined"] = "".join(texts).encode()
    assert MARK in result["failureMessage"]
    places |= files_below(tmp_path / "world")
    if world.database.server is not None:
        places |= files_below(Path(world.database.server._folder), began)
    await world.managers[0].stop()
    places["the manager's log"] = "".join(world.managers[0].stderr).encode()
    assert sum(content.count(MARK.encode()) for content in places.values()) > CANARIES

    found = check(History(leaks=find_leaks(places, canaries)))
    assert [str(violation) for violation in found] == []


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
        assert find_leaks({"log": f"before {form} after".encode()}, [canary]) != [], form
    assert find_leaks({"log": b"nothing of the kind"}, [canary]) == []
