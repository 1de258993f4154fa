import asyncio

import pytest

from treadle.kit.deadlines import finish


async def test_the_result_is_that_of_the_cleanup():
    async def work() -> int:
        return 7

    assert await finish(work(), 1.0, "work") == 7


async def test_what_the_cleanup_raises_is_raised():
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await finish(work(), 1.0, "work")


@pytest.mark.parametrize("cancels", [1, 3])
async def test_cancels_wait_until_the_cleanup_is_done(cancels: int):
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def cleanup() -> None:
        begun.set()
        await go.wait()
        done.append(True)

    caller = asyncio.create_task(finish(cleanup(), 5.0, "cleanup"))
    async with asyncio.timeout(2):
        await begun.wait()
    for _ in range(cancels):
        caller.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not caller.done()
    assert done == []
    go.set()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert done == [True]


async def test_a_cleanup_that_never_ends_is_given_up(caplog: pytest.LogCaptureFixture):
    stopped: list[bool] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    async with asyncio.timeout(2):
        assert await finish(endless(), 0.02, "endless") is None
    assert "endless did not end" in caplog.text
    await asyncio.sleep(0)
    assert stopped == [True]


async def test_a_cancel_outranks_a_failing_cleanup():
    begun, go = asyncio.Event(), asyncio.Event()

    async def cleanup() -> None:
        begun.set()
        await go.wait()
        raise ValueError("no")

    caller = asyncio.create_task(finish(cleanup(), 5.0, "cleanup"))
    await begun.wait()
    caller.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
