"""A run that is placed as a Kubernetes Job; manager, runner and backend are processes."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Home, run, started
from support.fake_provider import FakeProvider, reply
from support.manager_api import ManagerApi, assert_gapless
from treadle.cli import manager as main
from treadle.testing.fake_kubelet import Kubelet
from treadle.testing.fake_kubernetes import FakeKubernetes

SERVICE = "http://manager.test"
SECRET = "sk-canary-of-the-cluster-0123456789"


class Place:
    """A manager that places Jobs in a pretended cluster."""

    def __init__(
        self, api: ManagerApi, kubernetes: FakeKubernetes, kubelet: Kubelet, workspaces: Path
    ) -> None:
        self.api = api
        self.cluster = kubernetes.cluster
        self.kubelet = kubelet
        self.workspaces = workspaces

    async def create(self, prompt: str = "hello", **more: Any) -> str:
        body = {
            "placement": "kubernetes-job",
            "workspaceRef": {"kind": "host-path", "path": str(self.workspaces / "loom")},
            "executionPolicy": {"sandbox": "workspace-write", "approval": "never"},
            **more,
        }
        run_id = (await self.api.post("/runs", body))["id"]
        await self.turn(run_id, prompt)
        return run_id

    async def turn(self, run_id: str, prompt: str = "hello") -> str:
        body = {"type": "turn", "payload": {"prompt": prompt}}
        return (await self.api.post(f"/runs/{run_id}/commands", body))["id"]

    async def until(self, run_id: str, phase: str, count: int = 1) -> dict[str, Any]:
        """The event of a phase, its `count`-th."""
        after, seen = 0, 0
        async with asyncio.timeout(40):
            while True:
                query = {"afterSeq": after, "limit": 1000, "waitMs": 20_000}
                for event in (await self.api.get(f"/runs/{run_id}/events", **query))["items"]:
                    after = event["seq"]
                    seen += event["payload"].get("phase") == phase
                    if seen == count:
                        return event


@asynccontextmanager
async def manager(
    home: Home, tmp_path: Path, mode: str = "default", **more: Any
) -> AsyncIterator[Place]:
    workspaces = tmp_path / "workspaces"
    token_file = tmp_path / "api-token"
    token_file.write_text("of-the-account\n")
    backend = ["--codex-command", sys.executable]
    for argument in ("-m", "treadle.testing.fake_backend"):
        backend += [f"--codex-arg={argument}"]
    data = tmp_path / "data"
    async with FakeKubernetes(token="of-the-account") as kubernetes:
        facts: dict[str, Any] = {
            "namespace": "agents",
            "image": "registry.test/treadle:1",
            "manager_url": SERVICE,
            "token_secret": "runner-token",
            "workspace_root": str(workspaces),
            "idle_timeout_ms": 300,
            "command": [sys.executable, "-m", "treadle.cli.main"],
            "runner_args": backend,
            **more,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in facts.items()]
        tables = [
            "[credentials]",
            'codex = "codex-login"',
            "[api]",
            f"url = {json.dumps(kubernetes.url)}",
            f"token_file = {json.dumps(str(token_file))}",
        ]
        settings = tmp_path / "kubernetes.toml"
        settings.write_text("\n".join([*lines, *tables]))
        arguments = ["manager", "--port", "0", "--data", str(data), "--json"]
        async with started(home, *arguments, "--kubernetes", str(settings)) as process:
            url = json.loads(await process.wait_line("listening"))["listening"]
            env = dict(home.environment) | {"TREADLE_FAKE_BACKEND_MODE": mode}
            env.pop("TREADLE_HOME")
            folder, real = tmp_path / "pods", [str(workspaces)]
            kubelet = Kubelet(kubernetes.cluster, folder, env, real_folders=real)
            kubelet.aliases[SERVICE] = url
            # The backend's program is in the image too, wherever this checkout lies.
            kubelet.aliases[sys.executable] = sys.executable
            await kubelet.set_secret("runner-token", {"token": (data / "token").read_bytes()})
            login = {
                "auth.json": json.dumps({"OPENAI_API_KEY": SECRET}).encode(),
                "config.toml": b'model = "fake-model"\n',
            }
            await kubelet.set_secret("codex-login", login)
            folder.mkdir()
            async with ManagerApi(url, data) as api, kubelet:
                yield Place(api, kubernetes, kubelet, workspaces)


async def test_a_run_is_worked_on_in_a_job(bare_home: Home, tmp_path: Path) -> None:
    async with manager(bare_home, tmp_path) as place:
        credential = {"profile": "codex", "secretRef": {"name": "codex-login", "keys": []}}
        policy = {"approval": "never", "secretScope": {"providerCredentials": [credential]}}
        run_id = await place.create(executionPolicy=policy)
        claimed = await place.until(run_id, "run-claimed")
        await place.until(run_id, "command-terminal")
        events = await place.api.events(run_id)
        job = f"treadle-{run_id}-1"
        assert claimed["payload"]["attemptId"] == job
        assert claimed["payload"]["runnerId"] in place.kubelet.logs
        assert_gapless(events)
        assert SECRET not in json.dumps(events)
        assert SECRET not in json.dumps(place.cluster.objects)
        envelope = await place.api.get(f"/runs/{run_id}/result")
        assert envelope["reply"]
        runners = {each["id"]: each for each in (await place.api.get("/runners"))["items"]}
        assert runners[claimed["payload"]["runnerId"]]["placement"] == "kubernetes-job"

        # It idles, gives the run back, and its Job is over; nothing wants another one.
        jobs = place.cluster.objects["jobs"]
        await place.cluster.until(lambda: "conditions" in jobs[job]["status"], 20)
        assert (await place.api.get(f"/runs/{run_id}"))["claimedBy"] is None
        assert place.cluster.history == [("create", job)]


async def test_a_thread_goes_on_in_another_pod(
    bare_home: Home, tmp_path: Path, provider: FakeProvider
) -> None:
    """Manager, runner and our own app-server; threads lie on a volume, credentials do not."""
    bare_home.configure(provider.url)
    config = (bare_home.folder / "config.toml").read_bytes()
    policy = {"sandbox": "danger-full-access", "approval": "never"}
    more = {"session_claim": "kept", "runner_args": []}
    async with manager(bare_home, tmp_path, **more) as place:
        login = {"auth.json": json.dumps({"OPENAI_API_KEY": SECRET}).encode()}
        await place.kubelet.set_secret("codex-login", {**login, "config.toml": config})
        provider.script(reply("the first"), reply("the second"))
        run_id = await place.create(executionPolicy=policy)
        first = await place.until(run_id, "run-claimed")
        await place.until(run_id, "command-terminal")
        await place.until(run_id, "run-released")
        command = await place.turn(run_id)
        second = await place.until(run_id, "run-claimed", 2)
        assert second["payload"]["runnerId"] != first["payload"]["runnerId"]
        await place.until(run_id, "command-terminal", 2)
        await place.until(run_id, "thread/resume:completed")
        assert second["payload"]["attemptId"] == f"treadle-{run_id}-2"
        verified = await run(bare_home, "runs", "verify", run_id, "--data", str(tmp_path / "data"))
        assert verified.code == 0, verified.out
        result = await place.api.get(f"/runs/{run_id}/commands/{command}/result")
        assert (result["reply"], result["failureKind"]) == ("the second", None)
        assert "the first" in json.dumps(provider.requests[-1].body)
        kept = [path for path in (tmp_path / "pods" / "kept").rglob("*") if path.is_file()]
        assert any(path.name.startswith("rollout-") for path in kept)
        assert not any(SECRET.encode() in path.read_bytes() for path in kept)


async def test_an_evicted_runner_is_followed_at_once(bare_home: Home, tmp_path: Path) -> None:
    async with manager(bare_home, tmp_path, "ignore-signals", lease_ms=60_000) as place:
        run_id = await place.create()
        first = await place.until(run_id, "run-claimed")
        await place.until(run_id, "active-turn-control-ready")
        await place.kubelet.evict(first["payload"]["runnerId"])
        lost = await place.until(run_id, "run-lease-expired")
        assert lost["payload"]["failureKind"] == "runner-crashed"
        assert "was evicted: The node was low on resource" in lost["payload"]["failureMessage"]
        second = await place.until(run_id, "run-claimed", 2)
        assert (second["payload"]["epoch"], second["payload"]["reason"]) == (2, "gone")
        await place.api.post(f"/runs/{run_id}/commands", {"type": "cancel"})
        await place.until(run_id, "run-terminal")
        assert (await place.api.get(f"/runs/{run_id}"))["status"] == "cancelled"


async def test_a_cancelled_run_that_never_started_leaves_no_job(
    bare_home: Home, tmp_path: Path
) -> None:
    async with manager(bare_home, tmp_path) as place:
        place.kubelet.fates.append("unschedulable")
        run_id = await place.create()
        await place.cluster.until(lambda: place.cluster.names("pods") != [], 20)
        await place.api.post(f"/runs/{run_id}/commands", {"type": "cancel"})
        assert (await place.api.get(f"/runs/{run_id}"))["status"] == "cancelled"
        await place.cluster.until(lambda: place.cluster.names("jobs") == [], 20)
        await place.cluster.until(lambda: place.cluster.names("pods") == [], 20)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_job = 3", "wrong.toml cannot be used: Object"),
        (
            'namespace = "n"\nimage = "i"\nmanager_url = "http://m"\ntoken_secret = "t"',
            "no pod with a service account, and the settings have no [api]",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_said_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text)
    assert main.run(["--kubernetes", str(wrong), "--data", str(tmp_path / "data")]) == 2
    assert said in capsys.readouterr().err
    assert main.run(["--kubernetes", str(tmp_path / "no.toml")]) == 2
    assert "cannot read" in capsys.readouterr().err
