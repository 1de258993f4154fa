"""What the fleet tests share: credential homes, runs with commands, runners on the fake backend."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import treadle
from treadle.runner.manager_client import ManagerClient
from treadle.runner.manager_types import Event, EventPage
from treadle.runner.run_once import RunnerOptions, RunnerResult, run_once

SECRETS = {
    "codex": "sk-codex-canary-0123456789abcdef",
    "deepseek": "sk-deepseek-canary-0123456789abcdef",
    "minimax-m3": "sk-minimax-canary-0123456789abcdef",
}
SOURCE = str(Path(next(iter(treadle.__path__))).parent)
FAKE_ARGS = ("-m", "treadle.testing.fake_backend")
WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Fleet:
    """A manager to talk to and folders to work in."""

    client: ManagerClient
    url: str
    workspace: Path
    tmp: Path
    homes: dict[str, Path] = field(default_factory=dict[str, Path])

    @property
    def codex_home(self) -> Path:
        return self.homes["codex"]

    async def create(self, prompt: str, **more: Any) -> "Work":
        """A run with one turn command, the credentials of its profile in scope."""
        run = await self.client.create_run(self.run_body(**more))
        key = f"key-{run.id}"
        command = await self.client.post_command(
            run.id, "turn", {"prompt": prompt}, idempotency_key=key
        )
        return Work(self, run.id, command.id)

    def run_body(
        self,
        *,
        timeout_ms: int = 15_000,
        profile: str = "codex",
        credential_profile: str | None = None,
        session_ref: dict[str, str] | None = None,
        policy: dict[str, Any] | None = None,
        busy_policy: str = "enqueue",
    ) -> dict[str, Any]:
        mount = str(self.codex_home)
        keys = ["auth.json", "config.toml"]
        secret = {"name": f"secret-{profile}", "keys": keys, "mountPath": mount}
        credential = {"profile": credential_profile or profile, "secretRef": secret}
        scope = {"allowCredentialEcho": False, "providerCredentials": [credential]}
        return {
            "tenantId": "acme",
            "projectId": "acme/loom",
            "workspaceRef": {"kind": "host-path", "path": str(self.workspace)},
            "sessionRef": session_ref or {"sessionId": "s", "conversationId": "c"},
            "providerId": "G14",
            "backendProfile": profile,
            "busyPolicy": busy_policy,
            "executionPolicy": {
                "sandbox": "workspace-write",
                "approval": "never",
                "timeoutMs": timeout_ms,
                "network": "default",
                "secretScope": scope,
                **(policy or {}),
            },
            "traceSink": None,
        }


@dataclass(frozen=True)
class Work:
    """One run and its first command."""

    fleet: Fleet
    run_id: str
    command_id: str

    def options(self, mode: str = "", env: dict[str, str] | None = None, **more: Any) -> Any:
        home = more.pop("codex_home", self.fleet.codex_home)
        variables = {"CODEX_HOME": str(home), "PYTHONPATH": SOURCE, **(env or {})}
        if mode:
            variables["AGENTRUN_FAKE_CODEX_MODE"] = mode
        facts: dict[str, Any] = {
            "codex_command": sys.executable,
            "codex_args": FAKE_ARGS,
            "one_shot": True,
            **more,
        }
        return RunnerOptions(
            manager_url=self.fleet.url,
            run_id=self.run_id,
            codex_home=str(home),
            env=variables,
            **facts,
        )

    async def go(self, mode: str = "", **more: Any) -> RunnerResult:
        return await run_once(self.options(mode, **more))

    async def events(self) -> list[Event]:
        page = await self.fleet.client.events(self.run_id, limit=1000)
        check_no_secret(page)
        assert [event.seq for event in page.items] == list(range(1, len(page.items) + 1))
        return page.items

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Wait for an event; TimeoutError when it does not come."""
        seen = 0
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                page = await self.fleet.client.events(self.run_id, seen, wait_ms=5_000)
                for event in page.items:
                    seen = event.seq
                    if wanted(event):
                        return event

    async def command(self, command_id: str | None = None) -> Any:
        return await self.fleet.client.get_command(self.run_id, command_id or self.command_id)

    async def result(self) -> Any:
        return await self.fleet.client.result(self.run_id, self.command_id)


def make_home(folder: Path, secret: str, *, catalog: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": secret}))
    (folder / "config.toml").write_text('model = "fake-model"\n')
    if catalog:
        models = [{"slug": "fake-model", "context_window": 1_000_000}]
        (folder / "model-catalog.json").write_text(json.dumps({"models": models}))
    return folder


def check_no_secret(page: EventPage) -> None:
    text = repr(page)
    for secret in SECRETS.values():
        assert secret not in text


def phases(events: list[Event]) -> list[str]:
    return [str(e.payload.get("phase")) for e in events if e.type == "backend_status"]


def phase(events: list[Event], name: str) -> dict[str, Any]:
    """Payload of the first status of that phase; fails when there is none."""
    return next(e.payload for e in events if e.payload.get("phase") == name)


def place(events: list[Event], wanted: Callable[[Event], bool]) -> int:
    """Index of the first event that matches; fails when none does."""
    return next(index for index, event in enumerate(events) if wanted(event))


def is_tool(event: Event, kind: str, method: str) -> bool:
    payload = event.payload
    return event.type == "tool_call" and (payload["type"], payload["method"]) == (kind, method)


def has_source(event: Event, source: str) -> bool:
    return event.type == "assistant_message" and event.payload.get("source") == source


def errors(events: list[Event]) -> list[dict[str, Any]]:
    return [event.payload for event in events if event.type == "error"]
