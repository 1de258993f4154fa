"""Real runners as processes, with a scripted backend, and the runs that they work on."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from faults.api import Api
from faults.clients import make_run
from faults.recorder import Place, Recorder
from fleet.harness import make_home
from support.command_line import Home, Running, named_descendants, start

PROFILE = "drill"
TOKEN = "runner-token"
RUNNER_LEASES = 2
"""How many times a light writer's lease a real runner's is."""
BACKEND_COUNT = "60"
# Turns by what the backend does in them; the last word of a prompt makes it a new one.
GOOD_TURNS = ["default", "flood", "multi-agent-message-final", "noisy-reasoning-events"]
BAD_TURNS = [
    "crash",
    "leaves",
    "killed",
    "segfault",
    "part-of-a-line",
    "invalid-json",
    "invalid-utf8",
    "closes-output",
    "provider-503-terminal",
    "stderr-flood",
]
POLICIES = ["enqueue", "enqueue", "interrupt", "steer", "reject"]
HANGING_TURNS = ["missing-terminal", "tool-hangs-before-turn-start-response", "silence"]


class RunnerSpot:
    """One `treadle runner serve`, started again whenever it ends.

    Where it is `supervised`, faults meet the worker process, whose end its parent sees; a worker
    that is armed to die has none, or the next one would be armed as well.
    """

    def __init__(
        self, name: str, manager_url: str, folder: Path, lease_ms: int, *, supervised: bool
    ) -> None:
        self.name = name
        self._supervised = supervised
        self._arguments = [
            *("runner", "serve", "--manager-url", manager_url, "--runner-id", name),
            *("--token-file", str(folder / TOKEN)),
            *("--backend-profile", PROFILE, "--lease-ms", str(lease_ms), "--max-runs", "2"),
            *("--idle-timeout-ms", "2000", "--poll-interval-ms", "200"),
            *("--codex-command", sys.executable, "--codex-home", str(folder / "codex")),
            *("--codex-arg=-m", "--codex-arg=treadle.testing.fake_backend"),
        ]
        self._folder = folder
        self.stderr: list[str] = []
        self._points = ""
        self._running: Running | None = None
        self._keeper: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start, and keep it up."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep_up())

    def kill(self, points: str) -> None:
        """Kill it; the next one is armed for `points`."""
        self._points = points
        if points and self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                self._running.signal(signal.SIGKILL)
        else:
            self._signal_worker(signal.SIGKILL)

    async def sleep(self, seconds: float) -> None:
        """Stop the process for a while, then let it go on."""
        stopped = self._signal_worker(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _signal_worker(self, number: signal.Signals) -> list[int]:
        """Signal the process that holds runs; which one it was, if there was one."""
        if self._running is None or self._running.process.returncode is not None:
            return []
        pids = named_descendants(self._running.pid, "serve") or [self._running.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    async def stop(self) -> None:
        """End for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._running is not None:
            await self._running.kill()
            self.stderr.append(self._running.err.text)

    async def _keep_up(self) -> None:
        while True:
            variables = {"TREADLE_FAKE_BACKEND_MODE": "as-told"}
            variables["TREADLE_FAKE_BACKEND_COUNT"] = BACKEND_COUNT
            alone = [] if self._supervised and not self._points else ["--unsupervised"]
            if self._points:
                variables["TREADLE_FAULT_POINTS"] = self._points
                self._points = ""
            home = Home(self._folder / "home", variables)
            running = self._running = await start(home, *self._arguments, *alone)
            await running.process.wait()
            await running.kill()
            self.stderr.append(running.err.text)


class RunnerSpots:
    """All runner processes; they share the folder of the agent's home, and so the spool."""

    def __init__(self, urls: list[str], folder: Path, *, count: int, lease_ms: int) -> None:
        if count:
            make_home(folder / "codex", "sk-not-a-secret")
        self._folder = folder
        self.spots = [
            RunnerSpot(f"real-{n}", urls[n % len(urls)], folder, lease_ms, supervised=n % 2 == 1)
            for n in range(count)
        ]

    def begin(self, recorder: Recorder, place: Place) -> None:
        """Start them all, for the runs of a tenant."""
        (self._folder / TOKEN).write_text(place.tokens["runner"])
        for spot in self.spots:
            recorder.owner_of_runner[spot.name] = place.name
            spot.begin()

    async def kill(self, pick: int, points: str = "") -> None:
        """Kill one of them."""
        self.spots[pick % len(self.spots)].kill(points)

    async def sleep(self, pick: int, seconds: float) -> None:
        """Stop one of them for a while."""
        await self.spots[pick % len(self.spots)].sleep(seconds)

    async def stop(self) -> None:
        """End them all."""
        for spot in self.spots:
            await spot.stop()


class Dialogue:
    """Posts turns to a run that a real runner works on, interrupts what hangs, then closes it."""

    def __init__(
        self, api: Api, recorder: Recorder, name: str, place: Place, rng: random.Random
    ) -> None:
        self._api = api
        self._recorder = recorder
        self._name = name
        self._place = place
        self._rng = rng
        self._posted = 0
        self.run_id = ""

    async def make(self, workspace: Path) -> None:
        """Make the run."""
        policy = {"sandbox": "workspace-write", "approval": "never", "timeoutMs": 4000}
        self.run_id = await make_run(
            self._api,
            self._recorder,
            self._name,
            self._place,
            backendProfile=PROFILE,
            workspaceRef={"kind": "host-path", "path": str(workspace)},
            executionPolicy=policy,
            busyPolicy=self._rng.choice(POLICIES),
        )

    async def run(self, turns: int) -> None:
        """Post all turns, each before or after the one before is done; then close the run."""
        for _ in range(turns):
            mode = self._rng.choice(
                self._rng.choice([GOOD_TURNS, GOOD_TURNS, BAD_TURNS, HANGING_TURNS])
            )
            turn = await self._post("turn", {"prompt": f"{mode} {self._name}-{self._posted + 1}"})
            if turn is None:
                await asyncio.sleep(0.5)
                continue
            if mode in HANGING_TURNS or self._rng.random() < 0.2:
                await asyncio.sleep(self._rng.uniform(0, 1.5))
                wanted = {"commandId": turn["id"], "reason": f"enough {self._posted + 1}"}
                await self._post("interrupt", wanted, twice=self._rng.random() < 0.5)
            if self._rng.random() < 0.6:
                await self._until_closed(turn["id"])
        await self._post("close", {})
        path = f"/runs/{self.run_id}"
        token = self._place.tokens["reader"]
        while (await self._api.insist("GET", path, token=token)).body["terminalStatus"] is None:
            await asyncio.sleep(0.3)

    async def _post(
        self, kind: str, payload: dict[str, Any], *, twice: bool = False
    ) -> dict[str, Any] | None:
        """The command, or None when the run was busy and its policy is to refuse."""
        self._posted += 1
        key = f"{self._name}-{self._posted}"
        body = {"type": kind, "payload": payload, "idempotencyKey": key}
        path = f"/runs/{self.run_id}/commands"
        token = self._place.tokens["submitter"]
        asking = [self._api.insist("POST", path, body, token) for _ in range(2 if twice else 1)]
        answers = await asyncio.gather(*asking)
        for answer in answers:
            if answer.ok:
                self._recorder.keyed(self.run_id, key, answer.body["id"])
            elif answer.code != "run-busy":
                self._api.odd.append(f"command: {answer.body}")
        return answers[0].body if answers[0].ok else None

    async def _until_closed(self, command_id: str) -> None:
        path = f"/runs/{self.run_id}/commands/{command_id}"
        token = self._place.tokens["reader"]
        while (await self._api.insist("GET", path, token=token)).body["state"] in {
            "pending",
            "delivered",
        }:
            await asyncio.sleep(0.2)
