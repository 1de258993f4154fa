"""How fast runs become Kubernetes Jobs, and at how many calls: against a pretended API server.

The server is in this process and takes Jobs without doing anything with them, so what is measured
is the manager's part: from the answer to a run's first turn until the server has its Job.
"""

import asyncio
import json
import time
from pathlib import Path

import httpx

from treadle.cli.bench_control.places import manager
from treadle.cli.bench_control.report import Figure
from treadle.kit.tasks import TaskScope
from treadle.testing.fake_cluster import FakeCluster, Object
from treadle.testing.fake_kubernetes import FakeKubernetes

PER_SECOND = 50.0
WAIT_SECONDS = 30.0


class _Timed(FakeCluster):
    """Notes when the Job of each run came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[str, float] = {}

    async def create(self, plural: str, body: Object) -> Object:
        made = await super().create(plural, body)
        self.came[body["metadata"]["labels"]["treadle.dev/run-id"]] = time.perf_counter()
        return made


async def measure(kind: str, url: str | None, folder: Path, seconds: float) -> list[Figure]:
    """Latency and calls at a steady rate of new runs."""
    count = int(PER_SECOND * seconds)
    cluster = _Timed()
    async with FakeKubernetes(cluster) as kubernetes:
        facts = {"namespace": "n", "image": "i", "manager_url": "http://m", "token_secret": "t"}
        lines = [f"{name} = {json.dumps(value)}" for name, value in facts.items()]
        lines += ["max_jobs = 5000", "[api]", f"url = {json.dumps(kubernetes.url)}"]
        file = _write(folder, "\n".join(lines))
        async with manager(folder, url, "--kubernetes", str(file)) as one:
            asked = await _ask(f"{one.address}/api/v1", count)
            await cluster.until(lambda: len(cluster.came) == count, WAIT_SECONDS)
        calls = sum(kubernetes.calls.values())
    late = sorted(1000 * (cluster.came[run_id] - at) for run_id, at in asked.items())
    note = f"median {late[len(late) // 2]:.0f} ms; {count} runs at {PER_SECOND:.0f} a second"
    return [
        Figure(f"{kind}: Jobs, p99 until made", late[int(len(late) * 0.99)], "ms", "<=", 300, note),
        Figure(f"{kind}: Jobs, calls of the API", calls / count, "per run", "<=", 4),
    ]


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    file = folder / "kubernetes.toml"
    file.write_text(text, encoding="utf-8")
    return file


async def _ask(api: str, count: int) -> dict[str, float]:
    """Create runs with a turn at a steady rate; when each one's turn was there."""
    asked: dict[str, float] = {}
    scope = TaskScope("bench jobs")

    async def one(client: httpx.AsyncClient) -> None:
        run = (await client.post(f"{api}/runs", json={"placement": "kubernetes-job"})).json()
        turn = {"type": "turn", "payload": {"prompt": "hello"}}
        (await client.post(f"{api}/runs/{run['id']}/commands", json=turn)).raise_for_status()
        asked[run["id"]] = time.perf_counter()

    async with httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False) as client:
        began = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
            scope.start(one(client), f"run {number}")
        await scope.join(WAIT_SECONDS)
        await scope.close()
    return asked
