"""Tenants of a programme, and visitors who look at what is theirs and at what is others'.

Every run and runner of a programme lies in a project of a tenant and is worked on with tokens of
that project. Beside the work each visitor lists, reads, claims and commands whatever there is; all
rows that it is shown are recorded with whose they are (invariant I11), what is its own has to be
found.
"""

import asyncio
import random
from collections import defaultdict
from typing import Any

from faults.api import Answer, Api, Unknown
from faults.history import Forged, Granted, is_within
from faults.recorder import Place, Recorder

PLACES = ("loom/a", "loom/b", "mill/a")
"""Projects that runs and runners are in."""
CALLERS = ("loom", "loom/a", "mill")
"""Of whom the visitors are: a tenant, or a project of one."""
ROLES = ("reader", "submitter", "operator", "runner")
PARTS = ("", "/events?limit=200", "/commands", "/result", "/verification")
CLAIM_MS = 500
NOT_THEIRS = 404


def place_of(row: dict[str, Any]) -> str:
    """The project that a run says it is in."""
    return f"{row['tenantId']}/{row['projectId']}"


async def settle(api: Api, name: str) -> Place:
    """A tenant or project with a token for every role."""
    tenant, _, project = name.partition("/")
    tokens: dict[str, str] = {}
    for role in ROLES:
        body = {"name": f"{name} {role}", "role": role, "tenantId": tenant}
        if project:
            body["projectId"] = project
        answer = await api.insist("POST", "/tokens", body)
        assert answer.ok, answer.body
        tokens[role] = answer.body["token"]
    return Place(name, tokens)


class Visitor:
    """Somebody of one tenant or project, who tries everything for as long as it runs."""

    def __init__(self, api: Api, recorder: Recorder, place: Place, rng: random.Random) -> None:
        self._api = api
        self._recorder = recorder
        self._tokens = place.tokens
        self._caller = place.name
        self._rng = rng
        self._runner = f"visitor of {place.name}"
        self._tried = 0

    async def run(self, pause_seconds: float) -> None:
        """Try until cancelled."""
        self._recorder.owner_of_runner[self._runner] = self._caller
        body = {"id": self._runner}
        await self._api.insist("POST", "/runners/register", body, self._tokens["runner"])
        acts = [self._list_runs, self._list_runners, self._read_run, self._write, self._claim]
        while True:
            await asyncio.sleep(self._rng.uniform(0, 2 * pause_seconds))
            try:
                await self._rng.choice(acts)()
            except Unknown:
                continue

    async def _ask(self, method: str, path: str, role: str, body: Any = None) -> Answer:
        self._recorder.looks += 1
        return await self._api.ask(method, path, body, self._tokens[role])

    def _see(self, owner: str, place: str) -> None:
        self._recorder.show(self._caller, owner, place)

    async def _list_runs(self) -> None:
        query = self._rng.choice(["?limit=200", "?limit=200&tenantId=mill", "?limit=3"])
        owners = self._recorder.owner_of_run
        mine = {run for run, owner in owners.items() if self._may_see(owner)}
        answer = await self._ask("GET", f"/runs{query}", "reader")
        rows = answer.body["items"] if answer.ok else []
        for row in rows:
            self._see(owners.get(row["id"], place_of(row)), "GET /runs")
        if answer.ok and query == "?limit=200" and not mine <= {row["id"] for row in rows}:
            self._api.odd.append(f"{self._caller} does not see all of its runs")

    async def _list_runners(self) -> None:
        answer = await self._ask("GET", "/runners?limit=200", "reader")
        for row in answer.body["items"] if answer.ok else []:
            self._see(self._recorder.owner_of_runner[row["id"]], "GET /runners")

    async def _read_run(self) -> None:
        run_id, owner = self._some(self._recorder.owner_of_run)
        part = self._rng.choice([*PARTS, "/stream"])
        if part == "/stream" and self._may_see(owner):
            return  # subscribers do that, to its end
        role = "operator" if part == "/verification" else self._rng.choice(ROLES)
        answer = await self._ask("GET", f"/runs/{run_id}{part}", role)
        self._judge(answer, owner, f"GET /runs/ID{part}")
        if answer.ok and part.startswith("/events"):
            for row in answer.body["items"]:
                self._see(self._recorder.owner_of_run[row["runId"]], "GET /runs/ID/events")

    async def _write(self) -> None:
        """What is another's is not to be had; of what is its own it only asks what does no harm."""
        run_id, owner = self._some(self._recorder.owner_of_run)
        runner_id, of_runner = self._some(self._recorder.owner_of_runner)
        turn = {"type": "cancel", "idempotencyKey": f"{self._caller} {self._tried}"}
        self._tried += 1
        claim = {"runnerId": self._runner, "leaseMs": CLAIM_MS}
        tries = [
            (f"/runs/{run_id}/commands", turn, "submitter", owner),
            (f"/runs/{run_id}/claim", claim, "runner", owner),
            (f"/runners/{runner_id}/drain", {"draining": False}, "operator", of_runner),
            (f"/runners/{runner_id}/gone", {"sessionId": "none"}, "operator", of_runner),
        ]
        path, body, role, whose = self._rng.choice(tries)
        if self._may_see(whose):
            return
        answer = await self._ask("POST", path, role, body)
        forged = Forged(run_id, f"POST {path} by {self._caller}", answer.ok)
        self._recorder.common.forged.append(forged)
        self._judge(answer, whose, f"POST {path}")

    async def _claim(self) -> None:
        """Take what waits in the pool, look whose it is, and give it back."""
        asked_at = self._recorder.now()
        ask = {"runnerId": self._runner, "leaseMs": CLAIM_MS, "max": 3}
        answer = await self._ask("POST", "/claims", "runner", ask)
        for claim in answer.body["items"] if answer.ok else []:
            run_id, epoch = claim["runId"], int(claim["epoch"])
            self._see(self._recorder.owner_of_run[run_id], "POST /claims")
            grant = Granted(asked_at, self._recorder.now(), run_id, epoch, self._runner)
            self._recorder.granted(grant, claim["token"])
            body = {"epoch": epoch, "reason": "only a visit"}
            await self._api.ask("POST", f"/runs/{run_id}/release", body, claim["token"])

    def _judge(self, answer: Answer, owner: str, place: str) -> None:
        if answer.ok:
            self._see(owner, place)
        elif answer.passes:
            return
        elif self._may_see(owner) or answer.status != NOT_THEIRS:
            self._api.odd.append(f"{place} of {owner} by {self._caller}: {answer.body}")

    def _may_see(self, owner: str) -> bool:
        return is_within(owner, self._caller)

    def _some(self, known: dict[str, str]) -> tuple[str, str]:
        """One of each place as likely, however many there are."""
        by_owner: dict[str, list[str]] = defaultdict(list)
        for name, owner in known.items():
            by_owner[owner].append(name)
        owner = self._rng.choice(sorted(by_owner))
        return self._rng.choice(by_owner[owner]), owner
