import asyncio
import logging

import pytest

from treadle.kit.tasks import TaskScope


async def stubborn(release: asyncio.Event) -> None:
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            continue


async def test_closing_cancels_what_runs_and_waits_for_its_end():
    scope, ended = TaskScope("test"), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    scope.start(work(), "work")
    await asyncio.sleep(0)
    assert await scope.close(1.0)
    assert ended == [True]
    assert len(scope) == 0


async def test_closing_gives_up_on_a_task_that_ignores_the_cancel(
    caplog: pytest.LogCaptureFixture,
):
    scope, release = TaskScope("test"), asyncio.Event()
    task = scope.start(stubborn(release), "stubborn")
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        assert not await scope.close(0.02)
    assert "test:stubborn did not end" in caplog.text
    release.set()
    async with asyncio.timeout(1):
        await asyncio.wait({task})


async def test_nothing_starts_in_a_closed_scope():
    scope = TaskScope("test")
    await scope.close()
    work = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="test is closed; cannot start late"):
        scope.start(work, "late")


async def test_a_failing_task_is_reported_by_name_and_leaves_its_siblings_alone():
    heard: list[tuple[str, BaseException]] = []
    scope = TaskScope("test", lambda name, error: heard.append((name, error)))
    held = asyncio.Event()

    async def fail() -> None:
        raise ValueError("no")

    scope.start(fail(), "failing")
    sibling = scope.start(held.wait(), "sibling")
    assert not await scope.join(0.02)
    assert [(name, str(error)) for name, error in heard] == [("test:failing", "no")]
    assert not sibling.done()
    held.set()
    assert await scope.join(1.0)


async def test_failures_are_logged_when_nobody_asked_for_them(caplog: pytest.LogCaptureFixture):
    async def fail() -> None:
        raise ValueError("no")

    scope = TaskScope("test")
    scope.start(fail(), "failing")
    assert await scope.join(1.0)
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


async def test_a_task_may_close_its_own_scope():
    scope = TaskScope("test")
    held = scope.start(asyncio.Event().wait(), "held")

    async def close() -> bool:
        return await scope.close(1.0)

    async with asyncio.timeout(2):
        assert await scope.start(close(), "closer")
    assert held.cancelled()
