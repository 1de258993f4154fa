"""The remote store keeps the port's promises, also when server or writer die, stop or come back."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.thread_store_server import StoreServer, line_of, python
from treadle.domain.records import Foreign, ItemDone, ModelItem, ThreadRecord
from treadle.engine.store.remote import generate
from treadle.engine.store.remote import thread_store_pb2 as pb
from treadle.engine.store.remote.server import Server, serve
from treadle.engine.store.remote.store import RemoteThreadStore
from treadle.engine.store.thread_store import (
    StorageFailed,
    ThreadNotFound,
    ThreadPatch,
    ThreadQuery,
    Unsupported,
    WriterConflict,
)
from treadle.kit.clock import ManualClock, SystemClock
from treadle.testing.thread_store import ThreadStoreContract, a_thread, a_turn

HERE = "127.0.0.1:0"

WRITER = """
import asyncio, sys
from treadle.domain.records import ModelItem
from treadle.engine.store.remote.store import RemoteThreadStore
from treadle.engine.store.thread_store import StoreError
from treadle.kit.clock import SystemClock
from treadle.testing.thread_store import a_thread

async def main():
    store = RemoteThreadStore(sys.argv[1], SystemClock())
    created = a_thread(sys.argv[2])
    writer = await store.create(created)
    writer.append([created, ModelItem(item={"n": 0})])
    await writer.flush()
    print("stored", flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        try:
            writer.append([ModelItem(item={"n": 1})])
            await writer.flush()
            print("stored", flush=True)
        except StoreError as error:
            print(type(error).__name__, error, flush=True)

asyncio.run(main())
"""


class TestRemoteThreadStore(ThreadStoreContract):
    """The kit; the server runs in this process."""

    @pytest.fixture(autouse=True)
    async def server(self, tmp_path: Path) -> AsyncIterator[None]:
        self.running = await serve(tmp_path / "threads.db", HERE, SystemClock())
        yield
        await self.running.stop()

    def make_store(self, tmp_path: Any) -> RemoteThreadStore:
        return RemoteThreadStore(self.running.address, SystemClock())


def remote(endpoint: str, patience_seconds: float = 20.0) -> RemoteThreadStore:
    return RemoteThreadStore(endpoint, SystemClock(), patience_seconds=patience_seconds)


def item(number: int) -> ModelItem:
    return ModelItem(item={"type": "message", "n": number})


def numbers(records: list[ThreadRecord]) -> list[int]:
    return [record.content["n"] for record in records if isinstance(record, ModelItem)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[StoreServer]:
    async with StoreServer(tmp_path, lease_seconds=1.0) as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def near(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Server]:
    """A server in this process whose time only the test moves."""
    running = await serve(tmp_path / "near.db", HERE, clock, lease_seconds=10.0)
    yield running
    await running.stop()


# ---------------------------------------------------------------- records


async def test_every_record_comes_back_as_it_was(near: Server) -> None:
    store = remote(near.address)
    created = a_thread(
        dynamic_tools=[{"name": "x"}], base_instructions="be brief", git={"sha": "1"}
    )
    foreign = Foreign(type="event_msg", payload={"type": "odd", "deep": [1, {"a": None}]})
    unknown = ItemDone(turn_id="t", item={"type": "fromTomorrow", "id": "i", "x": 1})
    wanted: list[ThreadRecord] = [created, foreign, *a_turn("\u00fcber \U0001f600"), unknown]
    writer = await store.create(created)
    writer.append(wanted)
    await writer.close()
    assert await store.read_records(created.thread_id) == wanted
    await store.close()


async def test_a_log_larger_than_one_message_is_stored_and_read(near: Server) -> None:
    store = remote(near.address)
    created = a_thread()
    wanted: list[ThreadRecord] = [
        created,
        *(ModelItem(item={"n": n, "x": "y" * (3 << 20)}) for n in range(5)),
    ]
    writer = await store.create(created)
    writer.append(wanted)
    await writer.close()
    writer, records = await store.open(created.thread_id)
    assert records == wanted
    await store.close()


async def test_files_of_threads_are_not_offered(near: Server) -> None:
    store = remote(near.address)
    with pytest.raises(Unsupported, match="/tmp/x"):
        await store.adopt("/tmp/x")
    assert not store.has_files
    await store.close()


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    for endpoint in ("", "ftp://h:1", "http://h:1/path"):
        with pytest.raises(StorageFailed, match="http://HOST:PORT"):
            remote(endpoint)


# ---------------------------------------------------------------- sequences


async def test_a_batch_that_comes_again_is_stored_once(near: Server) -> None:
    store = remote(near.address)
    created = a_thread()
    writer: Any = await store.create(created)
    writer.append([created, item(1)])
    batches: list[pb.AppendRequest] = []
    call = store._link.call

    async def spy(name: str, request: Any, **more: Any) -> Any:
        if name == "Append":
            batches.append(request)
        return await call(name, request, **more)

    store._link.call = spy  # type: ignore[method-assign]
    await writer.flush()
    writer.append([item(2)])
    await writer.flush()
    for batch in batches:
        await call("Append", batch)
    assert [batch.sequence for batch in batches] == [1, 2]
    assert numbers(await store.read_records(created.thread_id)) == [1, 2]
    batches[-1].sequence = 9
    with pytest.raises(StorageFailed, match="batch 3 is missing"):
        await call("Append", batches[-1])
    await store.close()


async def test_a_flush_that_failed_is_made_good_by_the_next_one(tmp_path: Path) -> None:
    async with StoreServer(tmp_path) as server:
        store = remote(server.endpoint, patience_seconds=0.1)
        created = a_thread()
        writer = await store.create(created)
        writer.append([created, item(1)])
        await writer.flush()
        await server.kill()
        writer.append([item(2)])
        with pytest.raises(StorageFailed, match=r"does not answer.*see that it runs"):
            await writer.flush()
        writer.append([item(3)])
        await server.start()
        store._link._patience_seconds = 20.0
        await writer.flush()
        assert numbers(await store.read_records(created.thread_id)) == [1, 2, 3]
        await store.close()


async def test_an_append_beyond_the_buffer_is_refused(
    near: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("treadle.engine.store.remote.writer.MAX_BUFFERED_BYTES", 1000)
    store = remote(near.address)
    created = a_thread()
    writer = await store.create(created)
    writer.append([created])
    with pytest.raises(StorageFailed, match="does not keep up"):
        writer.append([ModelItem(item={"x": "y" * 1000})])
    await writer.flush()
    writer.append([item(1)])
    await writer.close()
    assert numbers(await store.read_records(created.thread_id)) == [1]
    await store.close()


async def test_changes_that_come_again_are_not_refused(near: Server) -> None:
    store = remote(near.address)
    created = a_thread()
    writer = await store.create(created)
    writer.append([created, *a_turn("x")])
    await writer.close()
    for name in ("Archive", "Unarchive", "Delete"):
        request = pb.ThreadRequest(thread_id=created.thread_id, request_id=name)
        await store._link.call(name, request)
        if name != "Delete":
            await store._link.call(name, request)
    request = pb.ThreadRequest(thread_id=created.thread_id, request_id="Delete")
    await store._link.call("Delete", request)
    with pytest.raises(ThreadNotFound):
        await store.delete(created.thread_id)
    await store.close()


# ---------------------------------------------------------------- kill -9


async def test_a_killed_server_loses_nothing_that_was_acknowledged(server: StoreServer) -> None:
    store = remote(server.endpoint)
    created = a_thread()
    writer = await store.create(created)
    writer.append([created])
    acknowledged = 0
    reached, killed = asyncio.Event(), 0

    async def killer() -> None:
        nonlocal killed
        for _ in range(2):
            reached.clear()
            await reached.wait()
            await server.kill()
            await server.start()
            killed += 1

    task = asyncio.create_task(killer())
    async with asyncio.timeout(40):
        while not task.done() or acknowledged < 40:
            writer.append([item(acknowledged)])
            await writer.flush()
            acknowledged += 1
            if acknowledged % 10 == 0:
                reached.set()
    await task
    assert killed == 2
    assert numbers(await store.read_records(created.thread_id)) == list(range(acknowledged))
    await store.close()


async def test_leases_outlive_a_killed_server(server: StoreServer) -> None:
    owner, other = remote(server.endpoint), remote(server.endpoint)
    created = a_thread()
    writer = await owner.create(created)
    writer.append([created])
    await writer.flush()
    await server.kill()
    await server.start()
    with pytest.raises(WriterConflict):
        await other.open(created.thread_id)
    writer.append([item(1)])
    await writer.flush()
    await other.close()
    await owner.close()


# ---------------------------------------------------------------- fences


async def test_the_loser_of_an_open_hears_who_owns_the_thread(
    near: Server, clock: ManualClock
) -> None:
    owner, other = remote(near.address), remote(near.address)
    created = a_thread()
    writer = await owner.create(created)
    writer.append([created])
    await writer.flush()
    clock.advance(7)
    with pytest.raises(WriterConflict) as refusal:
        await other.open(created.thread_id)
    told = str(refusal.value)
    for fact in (created.thread_id, f"pid {os.getpid()}", os.uname().nodename, "7 s ago"):
        assert fact in told
    assert f"treadle thread-store free {created.thread_id}" in told
    await owner.close()
    await other.close()


async def test_a_lease_lapses_without_a_word_and_its_late_batch_is_refused(
    near: Server, clock: ManualClock
) -> None:
    owner, other = remote(near.address), remote(near.address)
    created = a_thread()
    late = await owner.create(created)
    late.append([created, item(1)])
    await late.flush()
    clock.advance(9)
    with pytest.raises(WriterConflict):
        await other.open(created.thread_id)
    clock.advance(2)
    writer, records = await other.open(created.thread_id)
    assert numbers(records) == [1]
    late.append([item(2)])
    with pytest.raises(WriterConflict, match="has another writer by now"):
        await late.flush()
    with pytest.raises(WriterConflict):
        late.append([item(3)])
    writer.append([item(4)])
    await writer.close()
    await late.close()
    assert numbers(await other.read_records(created.thread_id)) == [1, 4]
    await owner.close()
    await other.close()


async def test_a_lapsed_lease_still_writes_while_nobody_took_it(
    near: Server, clock: ManualClock
) -> None:
    store = remote(near.address)
    created = a_thread()
    writer = await store.create(created)
    clock.advance(1000)
    writer.append([created, item(1)])
    await writer.close()
    assert numbers(await store.read_records(created.thread_id)) == [1]
    await store.close()


async def test_a_take_over_fences_a_writer_that_is_alive(near: Server) -> None:
    owner, other = remote(near.address), remote(near.address)
    created = a_thread()
    late = await owner.create(created)
    late.append([created, item(1)])
    await late.flush()
    writer, _ = await other.take_over(created.thread_id)
    late.append([item(2)])
    with pytest.raises(WriterConflict):
        await late.flush()
    writer.append([item(3)])
    await writer.flush()
    assert numbers(await other.read_records(created.thread_id)) == [1, 3]
    await owner.close()
    await other.close()


async def test_a_deleted_thread_made_anew_is_closed_to_its_old_writer(
    near: Server, clock: ManualClock
) -> None:
    owner, other = remote(near.address), remote(near.address)
    created = a_thread()
    late = await owner.create(created)
    late.append([created, *a_turn("old")])
    await late.flush()
    clock.advance(11)
    await other.delete(created.thread_id)
    writer = await other.create(created)
    writer.append([created, item(1)])
    await writer.flush()
    late.append([item(2)])
    with pytest.raises(WriterConflict):
        await late.flush()
    assert numbers(await other.read_records(created.thread_id)) == [1]
    await owner.close()
    await other.close()


async def test_an_owner_that_was_stopped_finds_itself_replaced(server: StoreServer) -> None:
    """SIGSTOP, the lease lapses, another writes, SIGCONT: the first one's append is refused."""
    store = remote(server.endpoint)
    created = a_thread()
    owner = await python("-c", WRITER, server.endpoint, created.thread_id, stdin=True)
    try:
        assert await line_of(owner) == "stored"
        with pytest.raises(WriterConflict, match=f"pid {owner.pid}"):
            await store.open(created.thread_id)
        os.kill(owner.pid, signal.SIGSTOP)
        writer = await until_free(store, created.thread_id)
        writer.append([item(2)])
        await writer.flush()
        os.kill(owner.pid, signal.SIGCONT)
        owner.stdin.write(b"go\n")
        told = await line_of(owner)
        assert told.startswith("WriterConflict ")
        assert f"pid {os.getpid()}" in told
        assert numbers(await store.read_records(created.thread_id)) == [0, 2]
    finally:
        os.kill(owner.pid, signal.SIGCONT)
        await owner.stop(0.1)
        await store.close()


async def until_free(store: RemoteThreadStore, thread_id: str) -> Any:
    """Open as soon as the lease lapsed."""
    async with asyncio.timeout(20):
        while True:
            try:
                return (await store.open(thread_id))[0]
            except WriterConflict:
                await asyncio.sleep(0.05)


async def test_a_thread_is_freed_by_command(server: StoreServer) -> None:
    owner = remote(server.endpoint)
    created = a_thread()
    late = await owner.create(created)
    late.append([created])
    await late.flush()
    arguments = ["thread-store", "free", created.thread_id, "--endpoint", server.endpoint]
    command = await python("-m", "treadle.cli.main", *arguments)
    assert await line_of(command) == f"thread {created.thread_id} is free"
    await command.wait()
    writer, _ = await owner.open(created.thread_id)
    await writer.close()
    await owner.close()


# ---------------------------------------------------------------- reading elsewhere


async def test_what_is_accepted_is_readable_here_and_what_is_flushed_everywhere(
    near: Server,
) -> None:
    here, there = remote(near.address), remote(near.address)
    created = a_thread()
    writer = await here.create(created)
    writer.append([created, *a_turn("hello")])
    with pytest.raises(ThreadNotFound):
        await there.read(created.thread_id)
    assert (await here.list_threads(ThreadQuery())).threads[0].preview == "hello"
    assert (await there.read(created.thread_id)).preview == "hello"
    await there.update(created.thread_id, ThreadPatch(name="n"))
    assert (await here.read(created.thread_id)).name == "n"
    await here.close()
    await there.close()


async def test_two_servers_on_one_database_are_refused(near: Server, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="in use by another server"):
        await serve(tmp_path / "near.db", HERE, SystemClock())


async def test_a_taken_port_is_named(near: Server, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=near.address):
        await serve(tmp_path / "other.db", near.address, SystemClock())


# ---------------------------------------------------------------- generated code


def test_the_generated_code_is_current(tmp_path: Path) -> None:
    script = f"import {generate.__name__} as g, pathlib, sys; g.generate(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=True,
        timeout=50,
    )
    for name in generate.GENERATED:
        assert (generate.FOLDER / name).read_text() == (tmp_path / name).read_text()
