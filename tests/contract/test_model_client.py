"""What every model client promises, whichever stands behind the interface."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from support.fake_provider import FakeProvider, Step, completed, created, http_error, message
from treadle.engine.model.cassette import CassettePlayer, CassetteRecorder
from treadle.engine.model.model_client import (
    ModelClient,
    ModelError,
    ModelEvent,
    ModelRequest,
    OutputItemDone,
    OutputTextDelta,
    ResponseCompleted,
    ResponseStarted,
)
from treadle.engine.model.profiles import ProviderSettings
from treadle.engine.model.responses import ResponsesClient
from treadle.engine.model.retry import RetryingClient
from treadle.engine.model.transport import HttpTransport

REQUEST = ModelRequest(model="m", input=[], thread_id="t", session_id="s", turn_id="u")
GOOD = Step([created(), *message("Hello", deltas=["Hel", "lo"]), completed()])
BAD = http_error(400, "no such thing")

Build = Callable[..., Awaitable[ModelClient]]


@asynccontextmanager
async def over_http(*steps: Step) -> AsyncGenerator[ModelClient, None]:
    transport = HttpTransport()
    async with FakeProvider() as provider:
        provider.script(*steps)
        settings = ProviderSettings(id="fake", name="Fake", base_url=provider.url)
        yield ResponsesClient(settings, transport)
        await transport.close()


async def drain(client: ModelClient) -> list[ModelEvent]:
    return [event async for batch in client.stream(REQUEST) for event in batch]


@pytest.fixture(params=["responses", "retrying", "recorder", "player"])
async def build(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Build]:
    """Makes a client that answers the next requests with the given steps."""
    async with AsyncExitStack() as stack:

        async def make(*steps: Step) -> ModelClient:
            live = await stack.enter_async_context(over_http(*steps))
            match request.param:
                case "responses":
                    return live
                case "retrying":
                    return RetryingClient(live)
                case "recorder":
                    return CassetteRecorder(live, tmp_path / "tape")
                case _:
                    recorder = CassetteRecorder(live, tmp_path / "tape")
                    for _ in steps:
                        try:
                            await drain(recorder)
                        except ModelError:
                            continue
                    return CassettePlayer(tmp_path / "tape")

        yield make


async def test_a_response_starts_streams_and_ends_with_its_completion(build: Build):
    events = await drain(await build(GOOD))
    assert isinstance(events[0], ResponseStarted)
    assert isinstance(events[-1], ResponseCompleted)
    assert events[-1].usage is not None
    assert events[-1].usage.total_tokens == 15
    assert "".join(event.delta for event in events if isinstance(event, OutputTextDelta)) == "Hello"
    assert sum(isinstance(event, OutputItemDone) for event in events) == 1


async def test_batches_are_never_empty(build: Build):
    client = await build(GOOD)
    assert all([len(batch) > 0 async for batch in client.stream(REQUEST)])


async def test_a_failure_is_a_model_error_with_its_kind(build: Build):
    client = await build(BAD)
    with pytest.raises(ModelError) as caught:
        await drain(client)
    assert "no such thing" in caught.value.message
    assert (caught.value.info, caught.value.http_status) == ("other", 400)


async def test_a_client_works_on_after_a_failure(build: Build):
    client = await build(BAD, GOOD)
    with pytest.raises(ModelError):
        await drain(client)
    assert isinstance((await drain(client))[-1], ResponseCompleted)


async def test_leaving_early_and_closing_twice_is_fine(build: Build):
    client = await build(GOOD, GOOD)
    stream = client.stream(REQUEST)
    await anext(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert isinstance((await drain(client))[-1], ResponseCompleted)
    await client.close()
    await client.close()
