"""Real runners as processes, with a scripted backend, and the runs that they work on."""

import asyncio
import contextlib
import random
import signal
import sys
from pathlib import Path
from typing import Any

from faults.api import Api
from faults.clients import make_run
from faults.recorder import Recorder
from fleet.harness import make_home
from support.command_line import Home, Running, start

PROFILE = "drill"
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
    """One `treadle runner serve` process, started again whenever it ends."""

    def __init__(self, name: str, manager_url: str, folder: Path, lease_ms: int) -> None:
        self.name = name
        self._arguments = [
            *("runner", "serve", "--unsupervised", "--manager-url", manager_url),
            *("--runner-id", name),
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
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                self._running.signal(signal.SIGKILL)

    async def sleep(self, seconds: float) -> None:
        """Stop the process for a while, then let it go on."""
        running = self._running
        if running is not None:
            with contextlib.suppress(ProcessLookupError):
                running.signal(signal.SIGSTOP)
                await asyncio.sleep(seconds)
                running.signal(signal.SIGCONT)

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
            if self._points:
                variables["TREADLE_FAULT_POINTS"] = self._points
                self._points = ""
            home = Home(self._folder / "home", variables)
            running = self._running = await start(home, *self._arguments)
            await running.process.wait()
            await running.kill()
            self.stderr.append(running.err.text)


class RunnerSpots:
    """All runner processes; they share the folder of the agent's home, and so the spool."""

    def __init__(self, urls: list[str], folder: Path, *, count: int, lease_ms: int) -> None:
        if count:
            make_home(folder / "codex", "sk-not-a-secret")
        self.spots = [
            RunnerSpot(f"real-{n}", urls[n % len(urls)], folder, lease_ms) for n in range(count)
        ]
        for spot in self.spots:
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

    def __init__(self, api: Api, recorder: Recorder, name: str, rng: random.Random) -> None:
        self._api = api
        self._recorder = recorder
        self._name = name
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
        while (await self._api.insist("GET", path)).body["terminalStatus"] is None:
            await asyncio.sleep(0.3)

    async def _post(
        self, kind: str, payload: dict[str, Any], *, twice: bool = False
    ) -> dict[str, Any] | None:
        """The command, or None when the run was busy and its policy is to refuse."""
        self._posted += 1
        key = f"{self._name}-{self._posted}"
        body = {"type": kind, "payload": payload, "idempotencyKey": key}
        path = f"/runs/{self.run_id}/commands"
        asking = [self._api.insist("POST", path, body) for _ in range(2 if twice else 1)]
        answers = await asyncio.gather(*asking)
        for answer in answers:
            if answer.ok:
                self._recorder.keyed(self.run_id, key, answer.body["id"])
            elif answer.code != "run-busy":
                self._api.odd.append(f"command: {answer.body}")
        return answers[0].body if answers[0].ok else None

    async def _until_closed(self, command_id: str) -> None:
        path = f"/runs/{self.run_id}/commands/{command_id}"
        while (await self._api.insist("GET", path)).body["state"] in {"pending", "delivered"}:
            await asyncio.sleep(0.2)
