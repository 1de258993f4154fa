import asyncio
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.wire.rpc.lanes import Lanes

Access = Literal["exclusive", "shared"]


class Bench:
    """Workers that join lanes, note who runs beside whom, and finish when they are told to."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.running: dict[int, tuple[str, Access]] = {}
        self.started: list[int] = []
        self.clashes: list[tuple[int, int]] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._finish: dict[int, asyncio.Event] = {}

    def arrive(self, key: str, access: Access) -> int:
        number = len(self.tasks)
        ticket = self.lanes.join(key, access)
        done = self._finish[number] = asyncio.Event()

        async def work() -> None:
            try:
                await ticket.turn()
                for other, (lane, kind) in self.running.items():
                    if lane == key and "exclusive" in (kind, access):
                        self.clashes.append((other, number))
                self.running[number] = (key, access)
                self.started.append(number)
                await done.wait()
            finally:
                self.running.pop(number, None)

        self.tasks[number] = asyncio.create_task(work())
        # As the dispatcher does: a task cancelled before its first step never runs.
        self.tasks[number].add_done_callback(lambda _: ticket.leave())
        return number

    def finish(self, number: int) -> None:
        self._finish[number].set()

    async def step(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async def end(self) -> None:
        for done in self._finish.values():
            done.set()
        async with asyncio.timeout(5):
            await asyncio.wait(self.tasks.values())
            await self.step()


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    if made.tasks:
        await made.end()


async def test_exclusive_requests_of_one_key_run_in_order_of_arrival(bench: Bench):
    first, second, third = (bench.arrive("a", "exclusive") for _ in range(3))
    await bench.step()
    assert list(bench.running) == [first]
    bench.finish(first)
    await bench.step()
    assert list(bench.running) == [second]
    bench.finish(second)
    await bench.step()
    assert list(bench.running) == [third]


async def test_requests_of_different_keys_run_side_by_side(bench: Bench):
    first, second = bench.arrive("a", "exclusive"), bench.arrive("b", "exclusive")
    await bench.step()
    assert set(bench.running) == {first, second}


async def test_neighbouring_shared_requests_run_together_and_nothing_overtakes(bench: Bench):
    readers = {bench.arrive("a", "shared"), bench.arrive("a", "shared")}
    writer = bench.arrive("a", "exclusive")
    late = bench.arrive("a", "shared")
    await bench.step()
    assert set(bench.running) == readers
    for reader in readers:
        bench.finish(reader)
    await bench.step()
    assert set(bench.running) == {writer}
    bench.finish(writer)
    await bench.step()
    assert set(bench.running) == {late}


async def test_a_request_that_is_given_up_while_waiting_holds_nobody_up(bench: Bench):
    first, second, third = (bench.arrive("a", "exclusive") for _ in range(3))
    await bench.step()
    bench.tasks[second].cancel()
    await bench.step()
    bench.finish(first)
    await bench.step()
    assert list(bench.running) == [third]


async def test_a_request_that_is_cancelled_as_its_turn_comes_passes_it_on(bench: Bench):
    first, second, third = (bench.arrive("a", "exclusive") for _ in range(3))
    await bench.step()
    bench.finish(first)
    while not bench.tasks[first].done():
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # the lane has admitted the second, which has not run yet
    bench.tasks[second].cancel()
    await bench.step()
    assert list(bench.running) == [third]


async def test_an_abandoned_writer_lets_the_readers_behind_it_join_those_before(bench: Bench):
    first = bench.arrive("a", "shared")
    writer = bench.arrive("a", "exclusive")
    late = bench.arrive("a", "shared")
    await bench.step()
    bench.tasks[writer].cancel()
    await bench.step()
    assert set(bench.running) == {first, late}


async def test_leaving_twice_gives_up_one_place_only():
    lanes = Lanes()
    first = lanes.join("a")
    second, third = lanes.join("a"), lanes.join("a")
    first.leave()
    first.leave()
    await second.turn()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await third.turn()


async def test_a_lane_disappears_with_its_last_request(bench: Bench):
    first, second = bench.arrive("a", "exclusive"), bench.arrive("b", "shared")
    await bench.step()
    assert len(bench.lanes) == 2
    bench.finish(first)
    bench.finish(second)
    await bench.step()
    assert len(bench.lanes) == 0


async def test_a_request_that_is_cancelled_as_its_turn_comes_frees_its_lane(bench: Bench):
    first, second = bench.arrive("a", "exclusive"), bench.arrive("a", "exclusive")
    await bench.step()
    bench.tasks[first].cancel()
    bench.tasks[second].cancel()  # it waits no more, and leaves only after the first one
    await bench.step()
    assert len(bench.lanes) == 0
    third = bench.arrive("a", "exclusive")
    await bench.step()
    assert list(bench.running) == [third]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("arrive"), st.sampled_from("ab"), st.sampled_from(["exclusive", "shared"])
        ),
        st.tuples(st.just("finish"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("step")),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(ACTIONS)
def test_whatever_comes_and_goes_exclusive_work_never_overlaps_and_all_is_served(
    actions: list[Any],
):
    async def play() -> None:
        bench = Bench()
        keys: dict[int, str] = {}
        cancelled: set[int] = set()
        for what, *details in actions:
            match what:
                case "arrive":
                    keys[bench.arrive(*details)] = details[0]
                case "step":
                    await bench.step()
                case _ if details[0] in bench.tasks:
                    number = details[0]
                    if what == "finish":
                        bench.finish(number)
                    else:
                        bench.tasks[number].cancel()
                        cancelled.add(number)
                case _:
                    pass
        if bench.tasks:
            await bench.end()
        assert bench.clashes == []
        assert set(bench.tasks) - set(bench.started) <= cancelled
        for key in "ab":
            order = [number for number in bench.started if keys[number] == key]
            assert order == sorted(order)
        assert len(bench.lanes) == 0

    asyncio.run(play())
