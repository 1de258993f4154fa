import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.kit.queues import Closed, Full, Mailbox, Outbox
from treadle.wire.transport.framing import LineSplitter


async def test_a_full_mailbox_refuses_and_keeps_what_it_has_in_order():
    box: Mailbox[int] = Mailbox(2)
    box.put(1)
    box.put(2)
    with pytest.raises(Full):
        box.put(3)
    box.force(4)
    assert len(box) == 3
    assert [await box.get() for _ in range(3)] == [1, 2, 4]


async def test_a_waiting_reader_gets_the_next_entry():
    box: Mailbox[str] = Mailbox(1)
    reading = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    assert not reading.done()
    box.put("here")
    async with asyncio.timeout(1):
        assert await reading == "here"


async def test_a_closed_mailbox_gives_what_is_left_then_says_so():
    box: Mailbox[int] = Mailbox(5)
    box.put(1)
    box.close()
    with pytest.raises(Closed):
        box.put(2)
    with pytest.raises(Closed):
        box.force(2)
    assert await box.get() == 1
    with pytest.raises(Closed):
        await box.get()


async def test_closing_wakes_a_waiting_reader():
    box: Mailbox[int] = Mailbox(5)
    reading = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    box.close()
    async with asyncio.timeout(1):
        with pytest.raises(Closed):
            await reading


async def test_deltas_are_dropped_past_the_bound_and_everything_else_enters():
    box = Outbox(10)
    assert box.put(b"0123456789", droppable=True)
    assert not box.put(b"delta", droppable=True)
    assert box.put(b"answer")
    assert box.dropped == 1
    assert await box.take() == [b"0123456789", b"answer"]


async def test_bytes_being_written_count_until_they_are_out():
    box = Outbox(10)
    box.put(b"0123456789")
    await box.take()
    assert not box.put(b"delta", droppable=True)
    assert not box.has_room
    assert not box.idle
    box.written()
    assert box.has_room
    assert box.idle
    assert box.put(b"delta", droppable=True)


async def test_a_producer_waits_for_room_and_is_let_go_when_it_comes():
    box = Outbox(4)
    box.put(b"01234")
    waiting = asyncio.create_task(box.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await box.take()
    box.written()
    async with asyncio.timeout(1):
        await waiting


async def test_a_closed_outbox_is_drained_and_lets_producers_go():
    box = Outbox(4)
    box.put(b"last words")
    waiting = asyncio.create_task(box.room())
    await asyncio.sleep(0)
    box.close()
    async with asyncio.timeout(1):
        await waiting
    assert not box.put(b"too late")
    assert await box.take() == [b"last words"]
    with pytest.raises(Closed):
        await box.take()


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.booleans()), max_size=40))
def test_nothing_that_must_arrive_is_ever_lost_and_order_is_kept(
    messages: list[tuple[bytes, bool]],
):
    async def play() -> None:
        box = Outbox(16)
        accepted = [m for m, droppable in messages if box.put(m, droppable=droppable)]
        kept = sum(1 for _, droppable in messages if not droppable)
        assert len(accepted) >= kept
        assert box.dropped == len(messages) - len(accepted)
        taken: list[bytes] = await box.take() if accepted else []
        assert taken == accepted

    asyncio.run(play())


LINE = st.binary(max_size=12).map(lambda data: data.replace(b"\n", b" "))


@given(st.lists(LINE, max_size=12), LINE, st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], rest: bytes, cuts: list[int]):
    data = b"".join(line + b"\n" for line in lines) + rest
    splitter, got, at, step = LineSplitter(1000), [], 0, 0
    while at < len(data):
        size = cuts[step % len(cuts)]
        got += splitter.feed(data[at : at + size])
        at, step = at + size, step + 1
    got += splitter.end()
    assert got == [line for line in [*lines, rest] if line.strip()]


@given(st.lists(st.sampled_from([b"short", b"x" * 21, b"y" * 40]), max_size=8), st.integers(1, 50))
def test_long_lines_are_discarded_whole_and_counted_once(lines: list[bytes], size: int):
    data = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(20)
    got = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]
    assert got == [line for line in lines if len(line) <= 20]
    assert splitter.discarded == sum(len(line) > 20 for line in lines)
