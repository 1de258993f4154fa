"""What the store of rollout files promises beyond the port: files, processes, the index."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import sqlite3
import stat
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import zstandard

import treadle
from treadle.domain import history
from treadle.domain.records import ModelItem, ThreadCreated, ThreadRecord
from treadle.engine.store.local.ownership import LEASE_SECONDS, acquire
from treadle.engine.store.local.rollout_files import Appender
from treadle.engine.store.local.store import LocalThreadStore
from treadle.engine.store.thread_store import (
    InvalidQuery,
    StorageFailed,
    ThreadInfo,
    ThreadNotFound,
    ThreadPatch,
    ThreadQuery,
    ThreadWriter,
    WriterConflict,
)
from treadle.kit.clock import SystemClock
from treadle.kit.processes import ChildProcess, spawn
from treadle.testing.thread_store import START, a_thread, a_turn

CHILD = """
import asyncio, sys
from pathlib import Path
from treadle.domain.records import ModelItem
from treadle.engine.store.local.store import LocalThreadStore
from treadle.engine.store.thread_store import WriterConflict
from treadle.kit.clock import SystemClock
from treadle.testing.thread_store import a_thread

async def main():
    lease = float(sys.argv[4])
    store = LocalThreadStore(Path(sys.argv[1]), SystemClock(), lease_seconds=lease)
    created = a_thread(sys.argv[2])
    writer = await store.create(created)
    writer.append([created])
    count = 0
    while True:
        item = {"type": "message", "n": count}
        try:
            writer.append([ModelItem(item=item)])
            await writer.flush()
        except WriterConflict as error:
            print("lost", error, flush=True)
            await store.close()
            break
        print(count, flush=True)
        count += 1
        if sys.argv[3] == "hold":
            await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    made = LocalThreadStore(tmp_path, SystemClock(), default_provider="mock")
    yield made
    await made.close()


def line(kind: str, **payload: Any) -> str:
    entry = {"timestamp": "2025-01-02T03:04:05.000Z", "type": kind, "payload": payload}
    return json.dumps(entry) + "\n"


def asked(text: str) -> str:
    return line("event_msg", type="user_message", message=text)


def foreign(home: Path, text: str, *, archived: bool = False, name: str = "") -> tuple[str, Path]:
    """A rollout that another program left; its id and path."""
    thread_id = str(uuid.uuid4())
    folder = home / ("archived_sessions" if archived else "sessions/2025/01/02")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"rollout-2025-01-02T03-04-05-{thread_id}.jsonl")
    head = line("session_meta", id=thread_id, timestamp="2025-01-02T03:04:05Z", cwd="/")
    path.write_text(head + (asked(text) if text else ""))
    return thread_id, path


async def previews(store: LocalThreadStore, **query: Any) -> list[str]:
    page = await store.list_threads(ThreadQuery(**query))
    return [info.preview for info in page.threads]


async def stored(store: LocalThreadStore, text: str = "hello") -> ThreadInfo:
    created = a_thread()
    writer = await store.create(created)
    writer.append([created, *a_turn(text)])
    await writer.close()
    return await store.read(created.thread_id)


async def child(
    home: Path, thread_id: str, mode: str, lease_seconds: float = LEASE_SECONDS
) -> ChildProcess:
    argv = [sys.executable, "-c", CHILD, str(home), thread_id, mode, str(lease_seconds)]
    sources = str(Path(treadle.__file__).parents[1])
    return await spawn(argv, env={"PATH": os.environ["PATH"], "PYTHONPATH": sources})


async def killed(process: ChildProcess) -> None:
    os.kill(process.pid, 9)
    await process.wait()


# ---------------------------------------------------------------- files


async def test_nothing_is_on_disk_before_the_first_append(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    writer = await store.create(a_thread())
    assert await previews(store) == []
    await writer.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_new_file_lies_in_its_dated_folder_and_is_private(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    info = await stored(store)
    path = Path(info.path or "")
    assert path.name.startswith("rollout-2025-01-0")
    assert path.name.endswith(f"-{info.thread_id}.jsonl")
    assert path.parent.parts[-4:-2] == ("sessions", "2025")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, tmp_path / "sessions"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["type"], first["ordinal"]) == ("session_meta", 0)


async def test_appended_records_reach_the_file_without_a_flush(store: LocalThreadStore) -> None:
    created = a_thread()
    writer = await store.create(created)
    writer.append([created])
    await asyncio.sleep(0)
    assert Path(writer.path or "").read_text().count("\n") == 1


async def test_a_torn_last_line_is_ended_before_more_is_written(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "words")
    with path.open("a") as file:
        file.write('{"timestamp":"2025-01-02T03:04:05Z","type":"event_m')
    writer, _ = await store.open(thread_id)
    writer.append(a_turn("next"))
    await writer.close()
    turns = history.turns(await store.read_records(thread_id))
    assert [turn.items[0].content[0].text for turn in turns] == ["words", "next"]


async def test_a_file_without_ordinals_stays_without(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "words")
    writer, _ = await store.open(thread_id)
    writer.append(a_turn("next"))
    await writer.close()
    assert not any("ordinal" in json.loads(raw) for raw in path.read_text().splitlines())


async def test_ordinals_go_on_after_reopening(store: LocalThreadStore) -> None:
    info = await stored(store)
    writer, _ = await store.open(info.thread_id)
    writer.append(a_turn("next"))
    await writer.close()
    lines = Path(info.path or "").read_text().splitlines()
    assert [json.loads(raw)["ordinal"] for raw in lines] == list(range(len(lines)))


def pack(path: Path, *, frames: int = 1) -> Path:
    """Compress a rollout in place, as several frames if asked; the new path."""
    data = path.read_bytes()
    step = -(-len(data) // frames)
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    packed = path.with_name(path.name + ".zst")
    packed.write_bytes(b"".join(zstandard.ZstdCompressor().compress(part) for part in parts))
    path.unlink()
    return packed


@pytest.mark.parametrize("frames", [1, 3])
async def test_compressed_files_are_read_and_unpacked_for_writing(
    tmp_path: Path, store: LocalThreadStore, frames: int
) -> None:
    thread_id, path = foreign(tmp_path, "packed")
    packed = pack(path, frames=frames)
    assert await previews(store) == ["packed"]
    writer, records = await store.open(thread_id)
    assert history.preview(records) == "packed"
    writer.append(a_turn("more"))
    await writer.close()
    assert (path.exists(), packed.exists()) == (True, False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(history.turns(await store.read_records(thread_id))) == 2
    assert await previews(store) == ["packed"]


async def test_a_damaged_compressed_file_is_refused_and_kept(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "packed")
    with path.open("a") as file:
        file.write(asked("words that nothing else says " + os.urandom(90000).hex()))
    packed = pack(path)
    packed.write_bytes(before := packed.read_bytes()[:-4000])
    assert await previews(store) == ["packed"], "the head is whole"
    with pytest.raises(StorageFailed, match="end is missing"):
        await store.read_records(thread_id)
    with pytest.raises(StorageFailed, match="end is missing"):
        await store.open(thread_id)
    assert packed.read_bytes() == before
    packed.write_bytes(b"not compressed at all")
    with pytest.raises(StorageFailed, match="no readable head"):
        await store.read(thread_id)


async def test_after_a_crash_while_unpacking_the_plain_file_counts(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "packed")
    plain = path.read_bytes()
    pack(path)
    path.write_bytes(plain + asked("more").encode())
    assert (await store.read(thread_id)).path == str(path)
    assert len(history.turns(await store.read_records(thread_id))) == 2


def test_what_could_not_be_written_waits_whole_for_the_next_try(tmp_path: Path) -> None:
    file = Appender(Path("/dev/full"))
    file.put(b"one\n")
    with pytest.raises(StorageFailed, match="No space left"):
        file.write()
    file.close()
    file.path = tmp_path / "there"
    file.put(b"two\n")
    file.write()
    file.close()
    assert file.path.read_bytes() == b"one\ntwo\n"


async def test_a_refused_folder_is_told_by_append_or_flush(tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("in the way")
    store = LocalThreadStore(tmp_path, SystemClock())
    created = a_thread()
    writer = await store.create(created)
    writer.append([created])
    with pytest.raises(StorageFailed, match="cannot write rollout"):
        await writer.flush()
    await asyncio.sleep(0)
    with pytest.raises(StorageFailed, match="cannot write rollout"):
        writer.append(a_turn("refused"))
    (tmp_path / "sessions").unlink()
    writer.append(a_turn("taken"))
    await writer.close()
    [turn] = history.turns(await store.read_records(created.thread_id))
    assert turn.items[0].content[0].text == "taken"
    await store.close()


# ---------------------------------------------------------------- processes and crashes


async def test_a_killed_process_loses_nothing_that_flush_acknowledged(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id = str(uuid.uuid4())
    process = await child(tmp_path, thread_id, "run")
    while int(await process.stdout.readline()) < 200:
        pass
    os.kill(process.pid, 9)
    acknowledged = [int(raw) for raw in (await process.stdout.read()).split(b"\n")[:-1] if raw]
    await process.wait()
    last = acknowledged[-1] if acknowledged else 200
    records = await store.read_records(thread_id)
    counts = [record.content["n"] for record in records if isinstance(record, ModelItem)]
    assert counts == list(range(len(counts)))
    assert len(counts) > last
    assert isinstance(records[0], ThreadCreated)


async def test_another_process_is_named_and_its_death_frees_the_thread(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id = str(uuid.uuid4())
    process = await child(tmp_path, thread_id, "hold")
    assert await process.stdout.readline() == b"0\n"
    told = f"thread {thread_id} already has an active writer (pid {process.pid} on"
    for ask in (store.open, store.archive):
        with pytest.raises(WriterConflict) as refusal:
            await ask(thread_id)
        assert str(refusal.value).startswith(f"{told} {socket.gethostname()} since ")
    assert len(await store.read_records(thread_id)) == 2, "reading needs no ownership"
    await killed(process)
    writer, records = await store.open(thread_id)
    assert len(records) == 2
    await writer.close()


async def opened(store: LocalThreadStore, thread_id: str) -> tuple[ThreadWriter, list[Any]]:
    """Open a thread as soon as its holder has been silent for long enough."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(WriterConflict):
                return await store.open(thread_id)
            await asyncio.sleep(0.02)


def counts(records: list[ThreadRecord]) -> list[int]:
    return [record.content["n"] for record in records if isinstance(record, ModelItem)]


@pytest.mark.parametrize("stopped_after", [1, 40, 41, 87])
async def test_a_stopped_writer_is_replaced_and_writes_no_more_when_it_wakes_up(
    tmp_path: Path, stopped_after: int
) -> None:
    store = LocalThreadStore(tmp_path, SystemClock(), lease_seconds=0.3)
    thread_id = str(uuid.uuid4())
    process = await child(tmp_path, thread_id, "run", 0.3)
    acknowledged: list[int] = []
    while len(acknowledged) < stopped_after:
        acknowledged.append(int(await process.stdout.readline()))
    os.kill(process.pid, signal.SIGSTOP)
    assert len(await store.read_records(thread_id)) > stopped_after, "reading needs no ownership"
    writer, records = await opened(store, thread_id)
    writer.append(turn := a_turn("of the next writer"))
    await writer.flush()
    os.kill(process.pid, signal.SIGCONT)
    told = (await process.stdout.read()).decode().splitlines()
    assert await process.wait() == 0
    acknowledged += [int(raw) for raw in told[:-1]]
    assert told[-1].startswith(f"lost thread {thread_id} was taken over by another process")
    await writer.flush()
    known = counts(records)
    assert known == list(range(len(known)))
    assert known[: len(acknowledged)] == acknowledged
    assert await store.read_records(thread_id) == [*records, *turn]
    await store.close()
    assert os.listdir(tmp_path / "thread-writer-locks") == [".treadle-takeover.lock"]


async def test_a_thread_can_be_taken_from_a_writer_that_is_well(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id = str(uuid.uuid4())
    process = await child(tmp_path, thread_id, "run")
    assert await process.stdout.readline() == b"0\n"
    with pytest.raises(WriterConflict, match="treadle threads free"):
        await store.open(thread_id)
    await store.free(thread_id)
    told = (await process.stdout.read()).decode().splitlines()
    assert await process.wait() == 0
    assert told[-1].startswith("lost")
    writer, records = await store.open(thread_id)
    assert counts(records)[: len(told)] == list(range(len(told)))
    await writer.close()


async def test_a_lock_of_another_program_or_machine_is_never_taken_over(tmp_path: Path) -> None:
    clock = SystemClock()
    held = acquire(tmp_path, "t", clock)
    lock = tmp_path / "thread-writer-locks" / "t.lock"
    for left in (b"", json.dumps({**json.loads(lock.read_text()), "host": "elsewhere"}).encode()):
        lock.write_bytes(left)
        os.utime(lock, (1, 1))
        with pytest.raises(WriterConflict):
            acquire(tmp_path, "t", clock, force=True)
        held.check()
    held.release()


def test_epochs_grow_with_each_holder_even_after_a_crash(tmp_path: Path) -> None:
    clock = SystemClock()
    first = acquire(tmp_path, "t", clock)
    with pytest.raises(WriterConflict):
        acquire(tmp_path, "t", clock)
    first.release()
    first.release()
    second = acquire(tmp_path, "t", clock)
    assert second.epoch >= first.epoch
    lock = tmp_path / "thread-writer-locks" / "t.lock"
    left = json.loads(lock.read_text())
    assert (left["pid"], left["epoch"]) == (os.getpid(), second.epoch)
    second.release()
    lock.write_text(json.dumps({**left, "epoch": left["epoch"] + 10**9}))
    third = acquire(tmp_path, "t", clock)
    assert third.epoch == left["epoch"] + 10**9 + 1
    third.release()
    assert not lock.exists()


async def test_a_failed_open_leaves_the_thread_free(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "words")
    assert await previews(store) == ["words"]
    path.write_text("garbage\n")
    with pytest.raises(StorageFailed):
        await store.open(thread_id)
    acquire(tmp_path, thread_id, SystemClock()).release()


# ---------------------------------------------------------------- lists and the index


async def test_files_that_come_change_and_go_are_noticed(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    _, first = foreign(tmp_path, "first")
    assert await previews(store) == ["first"]
    _, second = foreign(tmp_path, "")
    assert await previews(store) == ["first"]
    with second.open("a") as file:
        file.write(asked("second"))
    os.utime(second, (START, START))
    assert sorted(await previews(store)) == ["first", "second"]
    assert await previews(store, sort_key="updated_at") == ["first", "second"]
    os.utime(second, (START + 9e8, START + 9e8))
    await previews(store)
    assert await previews(store, sort_key="updated_at") == ["second", "first"]
    first.unlink()
    assert await previews(store) == ["second"]
    second.unlink()
    second.parent.rmdir()
    assert await previews(store) == []


@pytest.mark.parametrize("damage", ["deleted", "garbage"])
async def test_the_index_is_rebuilt_from_the_files(tmp_path: Path, damage: str) -> None:
    store = LocalThreadStore(tmp_path, SystemClock())
    info = await stored(store, "kept")
    await store.update(info.thread_id, ThreadPatch(name="a name"))
    foreign(tmp_path, "old", archived=True)
    await store.close()
    index = tmp_path / "treadle_index_1.sqlite"
    if damage == "deleted":
        index.unlink()
    else:
        index.write_bytes(b"no database at all" * 100)
    store = LocalThreadStore(tmp_path, SystemClock())
    [row] = (await store.list_threads(ThreadQuery())).threads
    assert (row.preview, row.name, row.created_at) == ("kept", "a name", START)
    assert await previews(store, archived=True) == ["old"]
    await store.close()


async def test_a_later_process_sees_what_changed_meanwhile(tmp_path: Path) -> None:
    store = LocalThreadStore(tmp_path, SystemClock())
    _, path = foreign(tmp_path, "goes")
    foreign(tmp_path, "stays")
    assert len(await previews(store)) == 2
    await store.close()
    path.unlink()
    foreign(tmp_path, "comes")
    store = LocalThreadStore(tmp_path, SystemClock())
    assert sorted(await previews(store)) == ["comes", "stays"]
    await store.close()


async def test_two_stores_of_one_home_see_each_others_work(tmp_path: Path) -> None:
    one = LocalThreadStore(tmp_path, SystemClock())
    two = LocalThreadStore(tmp_path, SystemClock())
    info = await stored(one, "hello")
    assert await previews(two) == ["hello"]
    await one.update(info.thread_id, ThreadPatch(name="named", tokens_used=5))
    seen = await two.read(info.thread_id)
    assert (seen.name, seen.tokens_used) == ("named", 5)
    await two.archive(info.thread_id)
    assert (await one.read(info.thread_id)).archived
    assert await previews(one) == []
    await one.close()
    await two.close()


async def test_names_go_by_the_index_file_that_others_share(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, _ = foreign(tmp_path, "words")
    assert (await store.read(thread_id)).name is None
    shared = tmp_path / "session_index.jsonl"
    shared.write_text(json.dumps({"id": thread_id, "thread_name": "theirs"}) + "\nbroken\n")
    assert [info.name for info in (await store.list_threads(ThreadQuery())).threads] == ["theirs"]
    await store.update(thread_id, ThreadPatch(name="ours"))
    last = json.loads(shared.read_text().splitlines()[-1])
    assert (last["id"], last["thread_name"]) == (thread_id, "ours")


async def test_broken_files_are_not_listed_and_are_told_from_missing_ones(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "words")
    path.write_text("")
    assert await previews(store) == []
    with pytest.raises(StorageFailed, match="is empty"):
        await store.read(thread_id)
    nobody = str(uuid.uuid4())
    with pytest.raises(ThreadNotFound, match=f"no rollout found for thread id {nobody}"):
        await store.read(nobody)


async def test_a_head_that_lacks_facts_is_listed_with_what_is_known(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    _, path = foreign(tmp_path, "sparse", name="rollout-whatever.jsonl")
    [info] = (await store.list_threads(ThreadQuery(model_providers=("mock",)))).threads
    assert (info.preview, info.path, info.created.source) == ("sparse", str(path), "vscode")
    assert (info.created.model_provider, info.created_at) == ("mock", START)
    assert await previews(store, model_providers=("other",)) == []


async def test_a_file_that_became_another_threads_is_not_taken_for_the_first(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    first, path = foreign(tmp_path, "first")
    assert await previews(store) == ["first"]
    second, other = foreign(tmp_path, "second one")
    other.replace(path)
    assert (await store.read(second)).path == str(path)
    with pytest.raises(StorageFailed, match="holds another thread"):
        await store.read(first)
    assert await previews(store) == ["second one"]


async def test_two_files_that_changed_places_are_each_their_own_threads(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    """Both are read in one go, and neither row takes the other along."""
    one, first = foreign(tmp_path, "one")
    two, second = foreign(tmp_path, "the other one")
    assert len(await previews(store)) == 2
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    page = await store.list_threads(ThreadQuery(sort_key="created_at"))
    assert {info.thread_id: info.path for info in page.threads} == {
        one: str(second),
        two: str(first),
    }
    assert len(await previews(store)) == 2


async def test_of_two_files_of_one_thread_the_newer_is_listed(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, old = foreign(tmp_path, "said at first")
    segment = old.with_name(f"{old.stem}_{uuid.uuid4()}.jsonl")
    segment.write_text(old.read_text().replace("said at first", "said later"))
    newer = old.with_name(f"rollout-2025-01-03T00-00-00-{thread_id}.jsonl")
    newer.write_text(old.read_text().splitlines()[0] + "\n")
    [info] = (await store.list_threads(ThreadQuery())).threads
    # The row names the newest file; words that only an older one has are kept.
    assert (info.path, info.preview in ("said at first", "said later")) == (str(newer), True)


async def test_metadata_can_be_patched_right_after_the_first_append(
    store: LocalThreadStore,
) -> None:
    created = a_thread()
    writer = await store.create(created)
    writer.append([created, *a_turn("hello")])
    assert (await store.update(created.thread_id, ThreadPatch(tokens_used=1))).preview == "hello"
    assert await previews(store) == ["hello"]
    await writer.close()


async def test_odd_facts_in_one_head_do_not_hide_the_others(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    foreign(tmp_path, "plain")
    fields = ("session_id", "cwd", "source", "model_provider", "git", "agent_role", "history_mode")
    more = ("dynamic_tools", "parent_thread_id", "forked_from_id", "thread_source", "timestamp")
    for odd in (5, {"a": 1}, [1], True):
        for field in fields + more:
            _, path = foreign(tmp_path, "odd")
            head = json.loads(path.read_text().splitlines()[0])
            head["payload"][field] = odd
            context = line("turn_context", model=odd, effort=odd, cwd=odd, summary=odd)
            path.write_text(json.dumps(head) + "\n" + context + asked("odd"))
    seen = await previews(store, limit=100)
    assert (seen.count("plain"), seen.count("odd")) == (1, 48)


# ---------------------------------------------------------------- archive


async def test_archive_moves_the_file_and_keeps_its_bytes_and_times(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "words")
    os.utime(path, (1740000000, 1740000000))
    before = path.read_bytes()
    await store.archive(thread_id)
    moved = tmp_path / "archived_sessions" / path.name
    assert (path.exists(), moved.read_bytes()) == (False, before)
    assert (await store.read(thread_id)).updated_at == 1740000000
    info = await store.unarchive(thread_id)
    assert (info.path, path.read_bytes(), moved.exists()) == (str(path), before, False)
    assert info.updated_at > 1740000000 + 86400


async def test_a_file_in_the_way_stops_an_archive_and_nothing_is_lost(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "words")
    (tmp_path / "archived_sessions" / path.name).mkdir(parents=True)
    with pytest.raises(WriterConflict, match="in the way"):
        await store.archive(thread_id)
    assert path.exists()
    assert await previews(store) == ["words"]


async def test_unarchive_refuses_a_name_without_a_date(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    thread_id, path = foreign(tmp_path, "words", archived=True, name="rollout-x.jsonl")
    with pytest.raises(InvalidQuery, match=r"rollout path .*rollout-x\.jsonl"):
        await store.unarchive(thread_id)
    assert path.exists()


async def test_metadata_survives_the_move_to_the_archive(store: LocalThreadStore) -> None:
    info = await stored(store)
    await store.update(info.thread_id, ThreadPatch(memory_mode="disabled", tokens_used=3))
    await store.archive(info.thread_id)
    await store.unarchive(info.thread_id)
    back = await store.read(info.thread_id)
    assert (back.memory_mode, back.tokens_used) == ("disabled", 3)


async def test_a_turn_costs_the_event_loop_little(store: LocalThreadStore) -> None:
    clock = SystemClock()
    created = a_thread()
    writer = await store.create(created)
    writer.append([created])
    turns: list[list[ThreadRecord]] = [a_turn(f"q{k}") for k in range(200)]
    began = clock.monotonic()
    for records in turns:
        for record in records:
            writer.append([record])
        await writer.flush()
    assert (clock.monotonic() - began) / len(turns) < 0.005, "about 0.15 ms on an idle machine"


async def thread_in(store: LocalThreadStore, **fields: Any) -> str:
    created = a_thread(**fields)
    writer = await store.create(created)
    writer.append([created, *a_turn("words")])
    await writer.close()
    return created.thread_id


async def test_deleting_leaves_nothing_of_a_thread_on_disk(store: LocalThreadStore, tmp_path: Path):
    gone, kept = await thread_in(store), await thread_in(store)
    for thread_id in (gone, kept):
        await store.update(thread_id, ThreadPatch(name="name of it"))
    await store.delete(gone)
    left = [path for path in tmp_path.rglob("*.jsonl") if gone in path.read_text() + path.name]
    assert left == []
    assert (await store.read(kept)).name == "name of it"


async def test_a_log_that_others_build_upon_is_not_deleted(store: LocalThreadStore, tmp_path: Path):
    source = await thread_in(store)
    path = Path((await store.read(source)).path or "")
    fork = str(uuid.uuid4())
    base = {
        "thread_id": source,
        "end_ordinal_exclusive": len(path.read_text().splitlines()),
        "end_byte_offset": path.stat().st_size,
    }
    head = {"id": fork, "cwd": "/", "forked_from_id": source, "history_base": base}
    file = path.with_name(f"rollout-2025-01-02T03-04-06-{fork}.jsonl")
    file.write_text(line("session_meta", **head, history_mode="paginated"))
    with pytest.raises(WriterConflict, match="forked history still references it"):
        await store.delete(source)
    assert path.exists()
    await store.delete(fork)
    await store.delete(source)
    assert list(tmp_path.rglob("rollout-*")) == []


async def test_an_adopted_log_is_continued_where_it_lies(store: LocalThreadStore, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    thread_id, path = foreign(elsewhere, "from elsewhere")
    assert await store.adopt(str(path)) == thread_id
    before = path.read_text()
    writer, _ = await store.open(thread_id)
    writer.append(a_turn("more"))
    await writer.flush()
    assert (await store.update(thread_id, ThreadPatch(memory_mode="disabled"))).path == str(path)
    assert path.read_text().startswith(before)
    assert len(path.read_text()) > len(before)
    assert (await store.list_threads(ThreadQuery())).threads == []
    await writer.close()
    with pytest.raises(ThreadNotFound):
        await store.read(thread_id)


async def test_an_adopted_log_of_the_home_is_that_thread(store: LocalThreadStore):
    thread_id = await thread_in(store)
    path = (await store.read(thread_id)).path or ""
    assert await store.adopt(path) == thread_id
    assert (await store.list_threads(ThreadQuery())).threads[0].thread_id == thread_id


async def test_there_is_nothing_to_adopt_at_an_empty_place(store: LocalThreadStore, tmp_path: Path):
    with pytest.raises(ThreadNotFound):
        await store.adopt(str(tmp_path / "nothing.jsonl"))


async def test_spawn_edges_outlive_the_store_and_filter_lists(tmp_path: Path):
    first = LocalThreadStore(tmp_path, SystemClock())
    root, child, grandchild = [await thread_in(first) for _ in range(3)]
    await first.link(root, child)
    await first.link(child, grandchild)
    await first.close()
    second = LocalThreadStore(tmp_path, SystemClock())
    page = await second.list_threads(ThreadQuery(ancestor_thread_id=root))
    assert {info.thread_id for info in page.threads} == {child, grandchild}
    page = await second.list_threads(ThreadQuery(parent_thread_id=root))
    assert [info.thread_id for info in page.threads] == [child]
    await second.close()


async def test_a_search_passes_over_files_that_lack_the_words(store: LocalThreadStore):
    thread_id = await thread_in(store)
    assert not await store.may_mention(thread_id, "zebra")
    assert await store.may_mention(thread_id, "WORDS")


async def test_marks_are_shared_and_survive_the_index(tmp_path: Path) -> None:
    one = LocalThreadStore(tmp_path, SystemClock())
    two = LocalThreadStore(tmp_path, SystemClock())
    thread_id, _ = foreign(tmp_path, "words")
    assert len(await previews(one)) == len(await previews(two)) == 1
    git = {"sha": None, "branch": "b", "originUrl": None}
    await one.update(thread_id, ThreadPatch(git=git, memory_mode="disabled"))
    await one.link("parent", thread_id)
    assert (await two.read(thread_id)).git == git
    other, _ = foreign(tmp_path, "others")
    await two.update(other, ThreadPatch(git=git))
    await one.close()
    await two.close()
    (tmp_path / "treadle_index_1.sqlite").unlink()
    again = LocalThreadStore(tmp_path, SystemClock())
    info = await again.read(thread_id)
    assert (info.git, info.memory_mode) == (git, "disabled")
    assert await again.descendants("parent") == [thread_id]
    await again.delete(thread_id)
    assert thread_id not in (tmp_path / "treadle_marks.jsonl").read_text()
    assert (await again.read(other)).git == git
    await again.close()


async def test_what_others_append_is_told_by_lists(tmp_path: Path, store: LocalThreadStore) -> None:
    thread_id, path = foreign(tmp_path, "words")
    assert (await store.read(thread_id)).model is None
    later = asked("more").replace("2025-01-02T03:04:05", "2025-01-02T03:05:00")
    with path.open("a") as file:
        file.write(line("turn_context", model="newer", effort="low", cwd="/elsewhere"))
        file.write(later + line("filler", text='"user_message"' * 40000))
    info = await store.read(thread_id)
    assert (info.model, info.effort, info.recency_at) == ("newer", "low", START + 55)
    assert info.settings is not None
    assert info.settings.cwd == "/elsewhere"


# ---------------------------------------------------------------- filling the index
#
# Names of tests are those of seed 001 where it names one. There a start waits until the index is
# filled; here it does not, and what is asked meanwhile is complete all the same.


FILLER = """
import asyncio, sys
from pathlib import Path
from treadle.engine.store.local.store import LocalThreadStore
from treadle.engine.store.thread_store import ThreadPatch, ThreadQuery
from treadle.kit.clock import SystemClock

async def main():
    store = LocalThreadStore(Path(sys.argv[1]), SystemClock())
    print("ready", flush=True)
    sys.stdin.readline()
    store.fill_index()
    page = await store.list_threads(ThreadQuery(limit=1000))
    await store.update(page.threads[0].thread_id, ThreadPatch(tokens_used=1))
    print(len(page.threads), flush=True)
    await store.close()

asyncio.run(main())
"""


async def filler(home: Path) -> ChildProcess:
    sources = str(Path(treadle.__file__).parents[1])
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": sources}
    return await spawn([sys.executable, "-c", FILLER, str(home)], env=env, stdin=True)


async def test_state_db_init_backfills_before_returning(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    ids = {foreign(tmp_path, f"words {number}")[0] for number in range(150)}
    store.fill_index()
    page = await store.list_threads(ThreadQuery(limit=1000))
    assert {info.thread_id for info in page.threads} == ids


async def test_try_init_waits_for_concurrent_startup_backfill(tmp_path: Path) -> None:
    for number in range(300):
        foreign(tmp_path, f"words {number}")
    processes = [await filler(tmp_path) for _ in range(12)]
    for process in processes:
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"go\n")
    for process in processes:
        said = await process.stdout.read()
        assert (await process.wait(), said) == (0, b"300\n")


async def test_try_init_times_out_waiting_for_stuck_startup_backfill(tmp_path: Path) -> None:
    for number in range(150):
        foreign(tmp_path, f"words {number}")
    stuck = os.open(tmp_path / "treadle_index_1.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(stuck, fcntl.LOCK_EX)
    store = LocalThreadStore(tmp_path, SystemClock())
    store.fill_index()
    async with asyncio.timeout(20):
        assert len(await previews(store, limit=1000)) == 150
    await store.close()
    os.close(stuck)


async def test_find_thread_path_accepts_existing_state_db_path_without_canonical_filename(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    for number in range(150):
        thread_id, path = foreign(tmp_path, f"words {number}")
    odd, _ = foreign(tmp_path, "odd", name="rollout-odd.jsonl")
    assert (await store.read(thread_id)).path == str(path)
    assert (await store.read(odd)).preview == "odd"


async def test_find_thread_path_falls_back_when_db_path_points_to_another_thread(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    first, path = foreign(tmp_path, "first")
    second, other = foreign(tmp_path, "second")
    assert len(await previews(store)) == 2
    with contextlib.closing(sqlite3.connect(tmp_path / "treadle_index_1.sqlite")) as index, index:
        relative = str(other.relative_to(tmp_path))
        index.execute("UPDATE threads SET path = ? WHERE thread_id = ?", (relative, first))
    assert (await store.read(first)).path == str(path)
    assert sorted(await previews(store)) == ["first", "second"]
    assert (await store.read(second)).path == str(other)


async def test_nothing_that_lies_in_a_home_is_lost_or_hides_the_rest(
    tmp_path: Path, store: LocalThreadStore
) -> None:
    sound, path = foreign(tmp_path, "sound")
    for number, data in enumerate((b"", b"garbage\n", b"\xff\xfe\n", b'{"id":7}\n', b"\n\n")):
        path.with_name(f"rollout-bad-{number}.jsonl").write_bytes(data)
    odd, damaged = foreign(tmp_path, "damaged")
    with damaged.open("ab") as file:
        file.write(b"garbage\n\xff\xfe{}\n" + line("of_tomorrow", a=1).encode())
        file.write(asked("after it").encode() + b'{"timestamp":"2025-01-02T03:04:05Z","ty')
    gone, missing = foreign(tmp_path, "gone")
    before = {each: each.read_bytes() for each in tmp_path.rglob("rollout-*")}
    assert sorted(await previews(store)) == ["damaged", "gone", "sound"]
    missing.unlink()
    assert sorted(await previews(store)) == ["damaged", "sound"]
    with pytest.raises(ThreadNotFound):
        await store.read(gone)
    writer, records = await store.open(odd)
    assert len(history.turns(records)) == 2
    writer.append(a_turn("next"))
    await writer.close()
    assert len(history.turns(await store.read_records(odd))) == 3
    assert damaged.read_bytes().startswith(before.pop(damaged) + b"\n")
    del before[missing]
    assert {each: each.read_bytes() for each in before} == before
    assert (await store.read(sound)).preview == "sound"


async def test_a_log_that_builds_upon_anothers_file_begins_with_its_own_head(
    store: LocalThreadStore,
):
    source = await thread_in(store)
    path = Path((await store.read(source)).path or "")
    fork = str(uuid.uuid4())
    base = {
        "thread_id": source,
        "end_ordinal_exclusive": len(path.read_text().splitlines()),
        "end_byte_offset": path.stat().st_size,
    }
    head = {"id": fork, "cwd": "/", "forked_from_id": source, "history_base": base}
    file = path.with_name(f"rollout-2025-01-02T03-04-06-{fork}.jsonl")
    file.write_text(line("session_meta", **head, history_mode="paginated"))
    writer, records = await store.open(fork)
    await writer.close()
    first = records[0]
    assert isinstance(first, ThreadCreated)
    assert (first.thread_id, first.forked_from_id) == (fork, source)
    assert records[1:-1] == (await store.read_records(source))[1:]
