"""The Responses API client against a scripted provider."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import treadle
from support.fake_provider import (
    FakeProvider,
    Step,
    completed,
    created,
    http_error,
    message,
    reply,
    text_delta,
)
from treadle.domain.failures import FailureKind
from treadle.engine.model.model_client import (
    ModelError,
    ModelEvent,
    ModelRequest,
    OutputTextDelta,
    RateLimits,
    ResponseCompleted,
    ResponseStarted,
)
from treadle.engine.model.profiles import ProviderSettings
from treadle.engine.model.responses import ResponsesClient
from treadle.engine.model.transport import HttpTransport

WAIT_SECONDS = 10.0


def ask(**changes: Any) -> ModelRequest:
    members: dict[str, Any] = {
        "model": "mock-model",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "thread_id": "thread-1",
        "session_id": "session-1",
        "turn_id": "turn-1",
    }
    return ModelRequest(**{**members, **changes})


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as fake:
        yield fake


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    shared = HttpTransport()
    yield shared
    await shared.close()


def client_of(provider: FakeProvider, transport: HttpTransport, **settings: Any) -> ResponsesClient:
    return ResponsesClient(
        ProviderSettings(id="fake", name="Fake", base_url=provider.url, **settings), transport
    )


async def drain(client: ResponsesClient, request: ModelRequest | None = None) -> list[ModelEvent]:
    async with asyncio.timeout(WAIT_SECONDS):
        return [event async for batch in client.stream(request or ask()) for event in batch]


async def failure_of(client: ResponsesClient) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await drain(client)
    return caught.value


# ---------------------------------------------------------------- the request


async def test_the_body_has_the_keys_that_providers_know_in_their_order(
    provider: FakeProvider, transport: HttpTransport
):
    request = ask(
        tools=[{"type": "function", "name": "f"}],
        reasoning={"effort": "high"},
        text={"verbosity": "low"},
        service_tier="priority",
    )
    await drain(client_of(provider, transport), request)
    body = provider.requests[0].body
    assert list(body) == [
        "model",
        "stream",
        "input",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "store",
        "include",
        "service_tier",
        "prompt_cache_key",
        "text",
        "client_metadata",
    ]
    assert body["store"] is False
    assert body["stream"] is True
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["prompt_cache_key"] == "session-1"
    assert body["input"] == request.input
    assert body["client_metadata"]["x-codex-window-id"] == "thread-1:0"


async def test_what_is_not_set_is_absent(provider: FakeProvider, transport: HttpTransport):
    await drain(client_of(provider, transport))
    absent = {"reasoning", "text", "service_tier", "instructions", "previous_response_id"}
    assert not absent & provider.requests[0].body.keys()
    assert "authorization" not in provider.requests[0].headers


async def test_headers_name_thread_session_client_and_turn(
    provider: FakeProvider, transport: HttpTransport
):
    request = ask(
        originator="löb\nx",
        user_agent="lab/1",
        window=2,
        request_kind="compaction",
        metadata={
            "parent_thread_id": "p",
            "subagent_kind": "thread_spawn",
            "extra": "ü",
            "model": 0,
        },
    )
    await drain(client_of(provider, transport, bearer="t0ken"), request)
    headers = provider.requests[0].headers
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["accept"] == "text/event-stream"
    assert headers["originator"] == "l_b_x"
    assert headers["user-agent"] == "lab/1"
    assert headers["session-id"] == "session-1"
    assert headers["thread-id"] == headers["x-client-request-id"] == "thread-1"
    assert headers["x-codex-window-id"] == "thread-1:2"
    assert headers["x-codex-parent-thread-id"] == "p"
    assert headers["x-openai-subagent"] == "collab_spawn"
    metadata = json.loads(headers["x-codex-turn-metadata"])
    assert (metadata["request_kind"], metadata["turn_id"]) == ("compaction", "turn-1")
    assert (metadata["extra"], metadata["model"]) == ("ü", "mock-model")


async def test_query_and_headers_of_the_provider_are_sent_and_win(
    provider: FakeProvider, transport: HttpTransport
):
    settings = {
        "query_params": {"api-version": "2", "q": "a b"},
        "http_headers": {"X-Team": "looms", "USER-AGENT": "mine"},
    }
    await drain(client_of(provider, transport, **settings))
    assert provider.requests[0].target == "/v1/responses?api-version=2&q=a+b"
    assert provider.requests[0].headers["x-team"] == "looms"
    assert provider.requests[0].headers["user-agent"] == "mine"


async def test_a_missing_key_variable_fails_before_anything_is_sent(
    provider: FakeProvider, transport: HttpTransport
):
    settings = {"missing_env": "MYKEY", "env_key_instructions": "Ask Ann for one."}
    failure = await failure_of(client_of(provider, transport, **settings))
    assert failure.message == "Missing environment variable: `MYKEY`. Ask Ann for one."
    assert not failure.retry_stream
    assert provider.requests == []


async def test_an_unusable_header_is_the_settings_fault(
    provider: FakeProvider, transport: HttpTransport
):
    client = client_of(provider, transport, http_headers={"x-bad": "a\nb"})
    failure = await failure_of(client)
    assert failure.info == "badRequest"
    assert not failure.retry_request
    assert provider.requests == []


async def test_a_large_request_arrives_whole(provider: FakeProvider, transport: HttpTransport):
    text = "x" * 3_000_000
    await drain(client_of(provider, transport), ask(input=[{"text": text}]))
    assert provider.requests[0].body["input"][0]["text"] == text


# ---------------------------------------------------------------- the answer


async def test_one_connection_serves_request_after_request(
    provider: FakeProvider, transport: HttpTransport
):
    client = client_of(provider, transport)
    for _ in range(5):
        assert isinstance((await drain(client))[-1], ResponseCompleted)
    assert provider.connections == 1


async def test_a_late_end_of_the_body_does_not_cost_the_connection(
    provider: FakeProvider, transport: HttpTransport
):
    end = asyncio.Event()
    provider.script(Step([created(), completed(), end]))
    client = client_of(provider, transport)
    await drain(client)
    end.set()
    # Below the interface, since nothing above it can see when the connection is free again.
    assert await transport._tasks.join(WAIT_SECONDS)
    await drain(client)
    assert provider.connections == 1


async def test_text_arrives_while_the_model_still_speaks(
    provider: FakeProvider, transport: HttpTransport
):
    more = asyncio.Event()
    provider.script(Step([created(), text_delta("early"), more, completed()]))
    stream = client_of(provider, transport).stream(ask())
    async with asyncio.timeout(WAIT_SECONDS):
        assert OutputTextDelta("early", "msg-1") in await anext(stream)
        more.set()
        assert isinstance((await anext(stream))[-1], ResponseCompleted)
        await stream.aclose()


async def test_the_end_does_not_wait_for_a_provider_that_keeps_the_line_open(
    provider: FakeProvider, transport: HttpTransport
):
    provider.script(Step([*message("x"), completed()], hang=True))
    assert isinstance((await drain(client_of(provider, transport)))[-1], ResponseCompleted)


async def test_headers_tell_of_limits_and_of_another_model(
    provider: FakeProvider, transport: HttpTransport
):
    headers = {
        "openai-model": "other-model",
        "x-codex-primary-used-percent": "42.4",
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": "1700000000",
        "x-codex-secondary-used-percent": "nonsense",
    }
    provider.script(Step([created(), completed()], headers=headers))
    events = await drain(client_of(provider, transport))
    assert isinstance(events[0], RateLimits)
    assert events[0].limits["primary"] == {
        "usedPercent": 42,
        "windowDurationMins": 300,
        "resetsAt": 1_700_000_000,
    }
    assert events[0].limits["secondary"] is None
    assert events[1] == ResponseStarted("resp-1", "other-model")


# ---------------------------------------------------------------- failures

HTTP = "httpConnectionFailed"
MANY = "responseTooManyFailedAttempts"


@pytest.mark.parametrize(
    ("step", "info", "retries"),
    [
        (http_error(400, "why"), "other", (False, False)),
        (
            http_error(400, code="context_length_exceeded"),
            "contextWindowExceeded",
            (False, False),
        ),
        (http_error(401, "why"), {HTTP: {"httpStatusCode": 401}}, (False, True)),
        (http_error(403, "why"), {HTTP: {"httpStatusCode": 403}}, (False, True)),
        (http_error(404, "why"), {HTTP: {"httpStatusCode": 404}}, (False, True)),
        (http_error(422, "why"), {HTTP: {"httpStatusCode": 422}}, (False, False)),
        (http_error(429), {MANY: {"httpStatusCode": 429}}, (False, False)),
        (http_error(429, type="usage_limit_reached"), "usageLimitExceeded", (False, False)),
        (http_error(429, type="usage_not_included"), "usageLimitExceeded", (False, False)),
        (http_error(500, "why"), "internalServerError", (True, True)),
        (Step(status=502, body="<html>why"), {HTTP: {"httpStatusCode": 502}}, (True, True)),
        (http_error(503, "why"), {HTTP: {"httpStatusCode": 503}}, (True, True)),
        (http_error(503, code="server_is_overloaded"), "serverOverloaded", (True, False)),
    ],
)
async def test_refusals_have_the_kinds_and_retries_of_the_protocol(
    provider: FakeProvider,
    transport: HttpTransport,
    step: Step,
    info: Any,
    retries: tuple[bool, bool],
):
    provider.script(step)
    failure = await failure_of(client_of(provider, transport))
    assert failure.info == info
    assert (failure.retry_request, failure.retry_stream) == retries
    assert failure.http_status == step.status
    if b"why" in (step.body if isinstance(step.body, bytes) else step.body.encode()):
        assert "why" in failure.message


async def test_the_message_names_status_reason_and_address_without_query_or_key(
    provider: FakeProvider, transport: HttpTransport
):
    provider.script(http_error(401, "bad key t0ken-of-ours"))
    settings = {"bearer": "t0ken-of-ours", "query_params": {"key": "hush"}}
    failure = await failure_of(client_of(provider, transport, **settings))
    assert failure.message == (
        f"unexpected status 401 Unauthorized: bad key [redacted], url: {provider.url}/responses"
    )
    assert failure.kind is FailureKind.PROVIDER_AUTH_FAILED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        (
            {
                "date": "Sat, 21 Nov 2026 10:00:00 GMT",
                "retry-after": "Sat, 21 Nov 2026 10:00:30 GMT",
            },
            30.0,
        ),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
    ],
)
async def test_a_named_wait_makes_a_rate_limit_worth_retrying(
    provider: FakeProvider, transport: HttpTransport, headers: dict[str, str], seconds: float | None
):
    step = http_error(429)
    step.headers = headers
    provider.script(step)
    failure = await failure_of(client_of(provider, transport))
    assert failure.retry_after_seconds == seconds
    assert failure.retry_stream is (seconds is not None)


async def test_a_usage_limit_says_when_it_ends(provider: FakeProvider, transport: HttpTransport):
    provider.script(http_error(429, type="usage_limit_reached", resets_at=1_795_000_000))
    failure = await failure_of(client_of(provider, transport))
    assert "usage limit" in failure.message
    assert "2026-11-18" in failure.message


@pytest.mark.parametrize("events", [[], [created(), *message("half")[:2]]])
async def test_a_stream_that_ends_early_is_a_disconnect(
    provider: FakeProvider, transport: HttpTransport, events: list[Any]
):
    provider.script(Step(events))
    failure = await failure_of(client_of(provider, transport))
    assert failure.message == (
        "stream disconnected before completion: stream closed before response.completed"
    )
    assert failure.retry_stream


async def test_a_cut_connection_keeps_what_came_and_is_a_disconnect(
    provider: FakeProvider, transport: HttpTransport
):
    provider.script(Step([created(), text_delta("half")], cut=True))
    seen: list[ModelEvent] = []

    async def read() -> None:
        async for batch in client_of(provider, transport).stream(ask()):
            seen.extend(batch)

    with pytest.raises(ModelError, match="stream disconnected before completion") as caught:
        await read()
    assert OutputTextDelta("half", "msg-1") in seen
    assert caught.value.kind is FailureKind.PROVIDER_STREAM_DISCONNECTED
    assert caught.value.retry_stream


@pytest.mark.parametrize("step", [Step([created()], hang=True), Step(before_head=asyncio.Event())])
async def test_silence_beyond_the_limit_is_a_disconnect(
    provider: FakeProvider, transport: HttpTransport, step: Step
):
    provider.script(step)
    failure = await failure_of(client_of(provider, transport, stream_idle_timeout_ms=50))
    assert "idle timeout waiting for SSE" in failure.message
    assert failure.retry_stream


async def test_comments_count_as_life(provider: FakeProvider, transport: HttpTransport):
    beats = [asyncio.Event() for _ in range(6)]
    events: list[Any] = [part for beat in beats for part in (beat, ": still here\n\n")]
    provider.script(Step([created(), *events, completed()]))
    client = client_of(provider, transport, stream_idle_timeout_ms=500)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number, beat in enumerate(beats, start=1):
        loop.call_later(0.1 * number, beat.set)
    assert isinstance((await drain(client))[-1], ResponseCompleted)
    assert loop.time() - begun > 0.5


async def test_a_refused_connection_fails_and_may_be_tried_again(transport: HttpTransport):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ProviderSettings(id="x", name="X", base_url=f"http://127.0.0.1:{port}/v1")
    failure = await failure_of(ResponsesClient(settings, transport))
    assert failure.info == {HTTP: {"httpStatusCode": None}}
    assert failure.kind is FailureKind.PROVIDER_UNAVAILABLE
    assert failure.retry_request
    assert failure.retry_stream
    assert f"127.0.0.1:{port}" in failure.message


async def test_a_broken_address_is_the_settings_fault(transport: HttpTransport):
    settings = ProviderSettings(id="x", name="X", base_url="nonsense")
    failure = await failure_of(ResponsesClient(settings, transport))
    assert failure.info == "badRequest"


@asynccontextmanager
async def closing_after_first_answer() -> AsyncGenerator[tuple[str, list[int]]]:
    """A provider that takes a second request on a connection and closes it without an answer."""
    served: list[int] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        for answer in (True, False):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            served.append(number)
            if answer:
                body = b'data: {"type":"response.completed","response":{}}\n\n'
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", served
    server.close()


async def test_a_kept_connection_that_dies_unanswered_is_replaced_silently(
    transport: HttpTransport,
):
    async with closing_after_first_answer() as (url, served):
        client = ResponsesClient(ProviderSettings(id="x", name="X", base_url=url), transport)
        assert isinstance((await drain(client))[-1], ResponseCompleted)
        assert isinstance((await drain(client))[-1], ResponseCompleted)
    assert served == [1, 1, 2]


# ---------------------------------------------------------------- leaving


async def test_closing_the_stream_ends_the_exchange_at_the_provider(
    provider: FakeProvider, transport: HttpTransport
):
    provider.script(Step([created(), text_delta("x")], hang=True))
    stream = client_of(provider, transport).stream(ask())
    async with asyncio.timeout(WAIT_SECONDS):
        await anext(stream)
        await stream.aclose()
        await provider.client_gone.wait()


@pytest.mark.parametrize("step", [Step([created()], hang=True), Step(before_head=asyncio.Event())])
async def test_a_cancelled_reader_leaves_no_connection_behind(
    provider: FakeProvider, transport: HttpTransport, step: Step
):
    provider.script(step)
    reader = asyncio.create_task(drain(client_of(provider, transport)))
    await provider.wait_requests(1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    if step.before_head is not None:
        step.before_head.set()
    assert isinstance((await drain(client_of(provider, transport)))[-1], ResponseCompleted)
    assert provider.connections == 2


async def test_a_closed_transport_refuses(provider: FakeProvider, transport: HttpTransport):
    client = client_of(provider, transport)
    provider.script(reply("x"))
    await drain(client)
    await transport.close()
    await transport.close()
    assert "closed" in (await failure_of(client)).message


def test_the_http_library_loads_with_the_first_request_only():
    code = (
        "import sys, treadle.engine.model.responses, treadle.engine.model.transport as t\n"
        "t.HttpTransport()\n"
        "sys.exit('aiohttp' in sys.modules)"
    )
    source = str(Path(treadle.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": source}, timeout=WAIT_SECONDS, check=False
    )
    assert run.returncode == 0
