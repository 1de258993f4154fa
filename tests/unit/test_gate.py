import asyncio

import pytest

from treadle.wire.rpc.gate import Gate


async def test_a_full_gate_refuses_until_someone_leaves():
    gate = Gate(2)
    assert [gate.enter(), gate.enter(), gate.enter()] == [True, True, False]
    gate.leave()
    assert gate.enter()
    assert gate.count == 2


async def test_a_closed_gate_refuses_and_still_waits_for_those_inside():
    gate = Gate(2)
    gate.enter()
    gate.close()
    assert not gate.enter()
    assert not await gate.drained(0.01)
    waiting = asyncio.create_task(gate.drained(5))
    await asyncio.sleep(0)
    gate.leave()
    assert await waiting


async def test_an_empty_gate_is_drained_at_once():
    async with asyncio.timeout(1):
        assert await Gate(1).drained(60)


@pytest.mark.parametrize("bound", [1, 7])
async def test_the_bound_is_exact(bound: int):
    gate = Gate(bound)
    assert sum(gate.enter() for _ in range(bound * 2)) == bound
