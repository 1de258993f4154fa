"""The in-process host: seed 003's assertions, and what a full queue does to whom."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import treadle
from support.fake_provider import FakeProvider, Step, completed, created, message, reply
from treadle import InProcessOptions, InProcessServer, Lagged, RpcError, ServerNotification
from treadle.appserver.embed import MUST_DELIVER
from treadle.engine.store.memory import InMemoryThreadStore
from treadle.kit.clock import SystemClock


@asynccontextmanager
async def served(
    tmp_path: Path, provider: FakeProvider, extra: str = "", **options: Any
) -> AsyncIterator[InProcessServer]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        'model = "mock-model"\napproval_policy = "never"\nsandbox_mode = "read-only"\n'
        f'model_provider = "mock"\n{extra}\n[model_providers.mock]\nname = "Mock"\n'
        f'base_url = "{provider.url}/v1"\nwire_api = "responses"\n'
        "request_max_retries = 0\nstream_max_retries = 0\n"
    )
    async with InProcessServer(InProcessOptions(home=str(home), **options)) as server:
        yield server


async def until_completed(server: InProcessServer) -> list[Any]:
    seen: list[Any] = []
    async with asyncio.timeout(20):
        while True:
            event = await server.next_event()
            seen.append(event)
            if isinstance(event, ServerNotification) and event.method == "turn/completed":
                return seen


async def with_patience(server: InProcessServer, method: str, params: Any = None) -> Any:
    """Ask until there is room (seed 003 does the same)."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await server.request(method, params)
            except treadle.WouldBlock:
                await asyncio.sleep(0)


def flood(server: InProcessServer) -> None:
    """More than any small queue holds, without letting the server run in between."""
    for _ in range(10):
        server.notify("initialized")


def text(words: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": words, "text_elements": []}]


async def test_in_process_start_initializes_and_handles_typed_v2_request(tmp_path: Path) -> None:
    async with FakeProvider() as provider, served(tmp_path, provider) as server:
        assert server.initialized["codexHome"] == str(tmp_path / "home")
        answer = await server.request("configRequirements/read")
        assert answer["requirements"] is None


@pytest.mark.parametrize("source", ["cli", "exec"])
async def test_in_process_start_uses_requested_session_source_for_thread_start(
    tmp_path: Path, source: str
) -> None:
    async with (
        FakeProvider() as provider,
        served(tmp_path, provider, session_source=source) as server,
    ):
        started = await server.request("thread/start", {"ephemeral": True})
        assert started["thread"]["source"] == source


async def test_in_process_start_clamps_zero_channel_capacity(tmp_path: Path) -> None:
    async with FakeProvider() as provider, served(tmp_path, provider, capacity=0) as server:
        answer = await with_patience(server, "configRequirements/read")
        assert answer["requirements"] is None


def test_guaranteed_delivery_helpers_cover_terminal_server_notifications() -> None:
    assert "turn/completed" in MUST_DELIVER


async def test_thread_start_with_non_local_thread_store_does_not_create_local_persistence(
    tmp_path: Path,
) -> None:
    name = str(tmp_path)
    line = f'experimental_thread_store = {{ type = "in_memory", id = "{name}" }}\n'
    store = InMemoryThreadStore.for_id(name, SystemClock())
    try:
        async with FakeProvider() as provider, served(tmp_path, provider, line) as server:
            thread = (await server.request("thread/start", {}))["thread"]
            assert thread["path"] is None
            await server.request("turn/start", {"threadId": thread["id"], "input": text("Hello")})
            await until_completed(server)
    finally:
        InMemoryThreadStore.remove_id(name)
    assert store.calls["create"] == 1
    assert store.calls["append"] > 0
    assert store.calls["flush"] > 0
    home = tmp_path / "home"
    assert not (home / "sessions").exists()
    assert not (home / "archived_sessions").exists()
    entries = {entry.name for entry in home.iterdir()}
    assert [name for name in entries if ".sqlite" in name] == []
    assert entries - {"shell_snapshots"} <= {"config.toml", "installation_id", "memories", "skills"}
    assert InMemoryThreadStore.for_id(name, SystemClock()) is not store
    InMemoryThreadStore.remove_id(name)


async def test_turn_completed_is_always_delivered_and_gaps_are_marked(tmp_path: Path) -> None:
    words = [f"w{number} " for number in range(500)]
    script = Step([created(), *message("".join(words), deltas=words), completed()])
    async with FakeProvider() as provider, served(tmp_path, provider, capacity=4) as server:
        provider.script(script)
        thread = (await server.request("thread/start", {}))["thread"]["id"]
        await server.request("turn/start", {"threadId": thread, "input": text("go")})
        await provider.wait_requests(1)
        seen = await until_completed(server)
        assert any(isinstance(event, Lagged) for event in seen)
        assert seen[-1].params["turn"]["status"] == "completed"


async def test_duplicate_ids_in_flight_are_refused_and_the_first_is_answered(
    tmp_path: Path,
) -> None:
    async with FakeProvider() as provider, served(tmp_path, provider) as server:
        first = asyncio.ensure_future(server.request("thread/list", {}, request_id="twin"))
        await asyncio.sleep(0)
        with pytest.raises(RpcError) as refused:
            await server.request("thread/list", {}, request_id="twin")
        assert refused.value.code == -32600
        assert refused.value.message.startswith("duplicate request id")
        assert (await first)["data"] == []


async def test_a_full_queue_tells_the_caller_to_come_back(tmp_path: Path) -> None:
    async with FakeProvider() as provider, served(tmp_path, provider, capacity=2) as server:
        with pytest.raises(treadle.WouldBlock):
            flood(server)
        # Room comes back by itself once the server has had a turn.
        assert (await with_patience(server, "thread/loaded/list", {}))["data"] == []


async def test_requests_pending_at_shutdown_fail_and_later_ones_are_refused(
    tmp_path: Path,
) -> None:
    async with FakeProvider() as provider:
        provider.script(Step([created()], hang=True))
        async with served(tmp_path, provider) as server:
            thread = (await server.request("thread/start", {}))["thread"]["id"]
            await server.request("turn/start", {"threadId": thread, "input": text("go")})
            await provider.wait_requests(1)
            await server.shutdown()
            with pytest.raises(treadle.ServerStopped):
                await server.request("thread/list", {})


async def test_opted_out_notifications_are_not_told(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        provider.script(reply("hello"))
        async with served(tmp_path, provider, opt_out=("item/started",)) as server:
            thread = (await server.request("thread/start", {}))["thread"]["id"]
            await server.request("turn/start", {"threadId": thread, "input": text("go")})
            told = {event.method for event in await until_completed(server)}
            assert "item/completed" in told
            assert "item/started" not in told


async def test_a_failed_handshake_shuts_down_and_raises(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        with pytest.raises(RpcError, match=r"Invalid clientInfo\.name"):
            async with served(tmp_path, provider, client_name="two\nlines"):
                pass
