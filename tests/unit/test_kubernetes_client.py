"""The client of the Kubernetes API and its mirror, against the pretended API server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.control.placement.kubernetes import client as client_module
from treadle.control.placement.kubernetes.api_types import Job
from treadle.control.placement.kubernetes.client import (
    JOBS,
    PODS,
    ApiAccess,
    ApiRefused,
    ApiUnreachable,
    Conflict,
    Expired,
    KubernetesClient,
)
from treadle.control.placement.kubernetes.mirror import Mirror
from treadle.kit.clock import SystemClock
from treadle.kit.tasks import TaskScope
from treadle.testing.fake_kubernetes import Disturbance, FakeKubernetes

OURS = {"treadle.dev/instance": "i"}
SELECTOR = "treadle.dev/instance=i"


def job(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": OURS if labels is None else labels}, "spec": {}}


@pytest.fixture
async def api() -> AsyncIterator[FakeKubernetes]:
    async with FakeKubernetes() as api:
        api.bookmark_seconds = 0.05
        yield api


@pytest.fixture
async def client(api: FakeKubernetes) -> AsyncIterator[KubernetesClient]:
    async with KubernetesClient(ApiAccess(api.url), "space", watch_seconds=2) as client:
        yield client


class Watched:
    """A mirror of Jobs that runs, with a way to wait for what it knows."""

    def __init__(self, client: KubernetesClient) -> None:
        self.grown = asyncio.Event()
        self.mirror: Mirror[Job] = Mirror(client, JOBS, SELECTOR, self.grown.set, SystemClock())
        self.scope = TaskScope("test mirror")
        self.scope.start(self.mirror.run(), "mirror")

    @property
    def names(self) -> list[str]:
        return sorted(self.mirror.items)

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not wanted():
                self.grown.clear()
                await self.grown.wait()


@pytest.fixture
async def watched(client: KubernetesClient) -> AsyncIterator[Watched]:
    watched = Watched(client)
    yield watched
    await watched.scope.close()


async def test_creating_again_is_a_conflict_and_deleting_again_is_nothing(
    api: FakeKubernetes, client: KubernetesClient
) -> None:
    made = await client.create_job(job("a"))
    assert (made.metadata.name, made.is_finished, made.failure) == ("a", False, None)
    with pytest.raises(Conflict):
        await client.create_job(job("a"))
    await client.delete_job("a", "uid-of-another")
    assert api.cluster.names("jobs") == ["a"]
    await client.delete_job("a", made.metadata.uid)
    await client.delete_job("a", made.metadata.uid)
    assert api.cluster.names("jobs") == []


async def test_a_busy_or_broken_server_is_asked_again_for_a_while(
    api: FakeKubernetes, client: KubernetesClient
) -> None:
    api.disturb("POST jobs", Disturbance(status=429, retry_after=0.05))
    api.disturb("POST jobs", Disturbance(status=500))
    assert (await client.create_job(job("a"))).metadata.name == "a"
    assert api.calls["POST jobs"] == 3
    api.disturb("GET jobs", Disturbance(status=503), times=client_module.TRIES)
    with pytest.raises(ApiRefused, match="503"):
        await client.list_all(JOBS)
    api.disturb("GET jobs", Disturbance(status=403))
    with pytest.raises(ApiRefused, match="403"):
        await client.list_all(JOBS)
    assert api.calls["GET jobs"] == client_module.TRIES + 1


async def test_an_answer_that_was_lost_shows_as_a_conflict(
    api: FakeKubernetes, client: KubernetesClient
) -> None:
    api.disturb("POST jobs", Disturbance(do_it=True))
    with pytest.raises(Conflict):
        await client.create_job(job("a"))
    assert api.cluster.names("jobs") == ["a"]


async def test_silence_and_absence_are_told_apart_from_refusals(
    api: FakeKubernetes, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "TRIES", 1)
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.2)
    async with KubernetesClient(ApiAccess(api.url), "space") as hasty:
        api.disturb("GET pods", Disturbance(stall=5))
        with pytest.raises(ApiUnreachable, match="ReadTimeout"):
            await hasty.list_all(PODS)
    async with KubernetesClient(ApiAccess("http://127.0.0.1:1"), "space") as lost:
        with pytest.raises(ApiUnreachable, match="ConnectError"):
            await lost.list_all(PODS)


async def test_the_token_is_read_anew_for_each_call(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with FakeKubernetes(token="second") as api:
        access = ApiAccess(api.url, token)
        async with KubernetesClient(access, "space") as client:
            with pytest.raises(ApiUnreachable, match="cannot read the token"):
                await client.list_all(JOBS)
            token.write_text("first\n")
            with pytest.raises(ApiRefused, match="401"):
                await client.list_all(JOBS)
            token.write_text("second\n")
            assert (await client.list_all(JOBS)).items == []


async def test_long_lists_come_in_pages(
    api: FakeKubernetes, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 3)
    for number in range(8):
        await api.cluster.create("jobs", job(f"j{number}"))
    await api.cluster.create("jobs", job("foreign", {}))
    listing = await client.list_all(JOBS, labelSelector=SELECTOR)
    assert [each.metadata.name for each in listing.items] == [f"j{n}" for n in range(8)]
    assert api.calls["GET jobs"] == 3


async def test_a_watch_that_is_too_old_says_so(
    api: FakeKubernetes, client: KubernetesClient
) -> None:
    version = (await client.list_all(JOBS)).version
    await api.cluster.create("jobs", job("a"))
    await api.cluster.compact()
    with pytest.raises(Expired):
        async for _ in client.watch(JOBS, version):
            pass


async def test_a_mirror_follows_through_cuts_and_forgotten_versions(
    api: FakeKubernetes, client: KubernetesClient, watched: Watched
) -> None:
    await api.cluster.create("jobs", job("a"))
    await watched.until(lambda: watched.names == ["a"])
    api.break_watches()
    await api.cluster.create("jobs", job("b"))
    await watched.until(lambda: watched.names == ["a", "b"])
    lists = api.calls["GET jobs"]
    assert lists == 1, "a watch that is cut goes on from where it was"

    api.watches_are_shut = True
    api.break_watches()
    await api.cluster.remove("jobs", "a")
    await api.cluster.create("jobs", job("c"))
    await api.cluster.compact()
    assert "a" in watched.names, "losing the watch says nothing of the Jobs"
    assert watched.mirror.is_fresh
    api.watches_are_shut = False
    await watched.until(lambda: watched.names == ["b", "c"])
    assert list(watched.mirror.departed) == ["a"]
    assert api.calls["GET jobs"] > lists


async def test_bookmarks_alone_keep_a_mirror_young(api: FakeKubernetes, watched: Watched) -> None:
    await watched.until(lambda: watched.mirror.is_known)
    await api.cluster.create("pods", {"metadata": {"name": "p"}})
    before = api.calls["GET jobs"]
    for _ in range(3):
        watched.grown.clear()
        await asyncio.wait_for(watched.grown.wait(), 10)
    # What a bookmark told is where the next watch begins: nothing before it is needed again.
    await api.cluster.compact()
    api.break_watches()
    await api.cluster.create("jobs", job("a"))
    await watched.until(lambda: watched.names == ["a"])
    assert api.calls["GET jobs"] == before


async def test_a_job_of_the_same_name_is_another_one(api: FakeKubernetes, watched: Watched) -> None:
    await api.cluster.create("jobs", job("a"))
    await watched.until(lambda: watched.names == ["a"])
    first = watched.mirror.items["a"].metadata.uid
    await api.cluster.remove("jobs", "a")
    await api.cluster.create("jobs", job("a"))
    await watched.until(lambda: watched.mirror.items["a"].metadata.uid != first)
    assert watched.mirror.departed["a"].metadata.uid == first
