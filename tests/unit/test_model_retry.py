"""What is tried again, how often, and after which wait."""

from collections.abc import AsyncGenerator, Sequence

import pytest

from treadle.engine.model.model_client import (
    ModelError,
    ModelEvent,
    ModelRequest,
    OutputTextDelta,
    ResponseCompleted,
    Retrying,
)
from treadle.engine.model.retry import RequestRetrying, RetryingClient

REQUEST = ModelRequest(model="m", input=[], thread_id="t", session_id="s", turn_id="u")
DONE = ResponseCompleted(response_id="r", usage=None)


class Attempts:
    """A client whose attempts are given: each a list of events, perhaps ending in an error."""

    def __init__(self, *attempts: Sequence[ModelEvent | ModelError]) -> None:
        self.left = list(attempts)
        self.made = 0
        self.closed_streams = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        self.made += 1
        try:
            for step in self.left.pop(0):
                if isinstance(step, ModelError):
                    raise step
                yield [step]
        finally:
            self.closed_streams += 1

    async def close(self) -> None:
        self.left.clear()


class Waits(list[float]):
    async def sleep(self, seconds: float) -> None:
        self.append(seconds)


def broken(**members: object) -> ModelError:
    return ModelError("gone", retry_stream=True, **members)  # pyright: ignore[reportArgumentType]


def refused(**members: object) -> ModelError:
    return ModelError("503", retry_request=True, **members)  # pyright: ignore[reportArgumentType]


async def play(
    inner: Attempts, *, requests: int = 4, streams: int = 5
) -> tuple[list[ModelEvent], Waits]:
    waits = Waits()
    client = RetryingClient(
        inner,
        request_max_retries=requests,
        stream_max_retries=streams,
        sleep=waits.sleep,
        jitter=lambda: 1.0,
    )
    events = [event async for batch in client.stream(REQUEST) for event in batch]
    return events, waits


async def test_a_broken_stream_is_tried_again_and_announced():
    half = OutputTextDelta("ha")
    inner = Attempts([half, broken(http_status=502)], [DONE])
    events, waits = await play(inner, streams=2)
    told = Retrying(
        "Reconnecting... 1/2", {"responseStreamDisconnected": {"httpStatusCode": 502}}, "gone"
    )
    assert events == [half, told, DONE]
    assert waits == [0.2]


async def test_waits_double_until_the_bound_and_then_the_error_stands():
    inner = Attempts(*([broken()] for _ in range(4)))
    waits = Waits()
    client = RetryingClient(inner, stream_max_retries=3, sleep=waits.sleep, jitter=lambda: 1.0)
    told: list[str] = []

    async def listen() -> None:
        async for batch in client.stream(REQUEST):
            told.extend(event.message for event in batch if isinstance(event, Retrying))

    with pytest.raises(ModelError, match="gone"):
        await listen()
    assert told == ["Reconnecting... 1/3", "Reconnecting... 2/3", "Reconnecting... 3/3"]
    assert waits == pytest.approx([0.2, 0.4, 0.8])
    assert inner.made == 4


async def test_a_request_without_answer_is_sent_again_without_voiding_anything():
    inner = Attempts([refused()], [refused()], [DONE])
    events, waits = await play(inner)
    assert [type(event) for event in events] == [
        RequestRetrying,
        RequestRetrying,
        ResponseCompleted,
    ]
    assert waits == pytest.approx([0.2, 0.4])


async def test_both_bounds_multiply():
    inner = Attempts(*([refused(retry_stream=True)] for _ in range(20)))
    with pytest.raises(ModelError):
        await play(inner, requests=2, streams=2)
    assert inner.made == 9


async def test_a_request_whose_answer_had_begun_is_not_sent_again():
    inner = Attempts([OutputTextDelta("x"), refused()])
    with pytest.raises(ModelError):
        await play(inner)
    assert inner.made == 1


async def test_an_error_that_forbids_retries_passes_at_once():
    inner = Attempts([ModelError("no")], [DONE])
    with pytest.raises(ModelError, match="no"):
        await play(inner)
    assert inner.made == 1


async def test_the_wait_that_the_provider_asks_for_is_kept():
    _, waits = await play(Attempts([broken(retry_after_seconds=7.5)], [DONE]))
    assert waits == [7.5]


async def test_a_wait_beyond_patience_fails_instead():
    inner = Attempts([broken(retry_after_seconds=86_400.0)], [DONE])
    with pytest.raises(ModelError):
        await play(inner)
    assert inner.made == 1


async def test_backoff_stays_bounded_however_many_retries_are_configured():
    _, waits = await play(Attempts(*([broken()] for _ in range(60)), [DONE]), streams=100)
    assert max(waits) == 30.0


async def test_closing_the_wrapper_early_closes_the_attempt():
    inner = Attempts([OutputTextDelta("a"), OutputTextDelta("b"), DONE])
    stream = RetryingClient(inner).stream(REQUEST)
    await anext(stream)
    await stream.aclose()
    assert inner.closed_streams == 1
