"""A model behind the Responses API: HTTP POST, server-sent events back.

Turns a `ModelRequest` into the request that such providers expect (codex 0.169.0's headers and
body, in its order) and their answer into model events. Retries nothing: that is the wrapper's
decision. Owns no HTTP library (see `transport`) and no event syntax (see `sse`).
"""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

import msgspec

from treadle.engine.model import provider_errors as failures
from treadle.engine.model.model_client import ModelError, ModelEvent, ModelRequest, RateLimits
from treadle.engine.model.profiles import ProviderSettings
from treadle.engine.model.rate_limits import read_rate_limits
from treadle.engine.model.sse import SseParser
from treadle.engine.model.transport import (
    Answer,
    BadRequest,
    ConnectFailed,
    HttpRequest,
    IdleTimeout,
    Transport,
    TransportError,
)

ERROR_BODY_LIMIT_BYTES = 64 * 1024
_HTTP_OK = 200
_SUBAGENT_LABELS = {"thread_spawn": "collab_spawn"}
"""Header values of the references where they differ from the metadata's `subagent_kind`."""


class ResponsesClient:
    """One provider; a `ModelClient`."""

    def __init__(self, provider: ProviderSettings, transport: Transport) -> None:
        """Use `transport` for the calls; whoever made it closes it."""
        self._provider = provider
        self._transport = transport
        self._address = provider.base_url.rstrip("/") + "/responses"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        """Send `request`; yield events in batches as the network delivered them.

        Raises:
            ModelError: the attempt failed; events already yielded stand.
        """
        provider = self._provider
        if provider.missing_env is not None:
            raise failures.missing_key(provider.missing_env, provider.env_key_instructions)
        exchange = HttpRequest(
            url=self._url(),
            headers=request_headers(request, provider),
            body=msgspec.json.encode(request_body(request, provider)),
            connect_seconds=provider.connect_timeout_ms / 1000,
            idle_seconds=provider.stream_idle_timeout_ms / 1000,
        )
        try:
            async with self._transport.exchange(exchange) as answer:
                if answer.status != _HTTP_OK:
                    raise await self._refused(answer)
                async with aclosing(_events(answer)) as batches:
                    async for events in batches:
                        yield events
        except TransportError as error:
            raise self._broken(error) from error

    async def close(self) -> None:
        """Nothing of its own to release: connections belong to the transport."""

    def _url(self) -> str:
        params = self._provider.query_params
        return f"{self._address}?{urlencode(params)}" if params else self._address

    async def _refused(self, answer: Answer) -> ModelError:
        body = bytearray()
        try:
            while len(body) < ERROR_BODY_LIMIT_BYTES:
                chunk = await answer.next_chunk()
                if not chunk:
                    break
                body += chunk
        except TransportError:
            pass  # the status alone must do
        return failures.http_failure(
            failures.HttpAnswer(
                status=answer.status,
                headers=answer.headers,
                body=self._without_secrets(bytes(body)),
                url=self._address,
            )
        )

    def _without_secrets(self, body: bytes) -> bytes:
        """Providers like to quote a bad key in their refusal."""
        bearer = self._provider.bearer
        return body.replace(bearer.encode(), b"[redacted]") if bearer else body

    def _broken(self, error: TransportError) -> ModelError:
        match error:
            case ConnectFailed():
                return failures.unreachable(self._address, str(error))
            case IdleTimeout():
                return failures.broken_stream("idle timeout waiting for SSE")
            case BadRequest():
                return failures.bad_request_setting(str(error))
            case _:
                return failures.broken_stream(f"Transport error: {error}")


async def _events(answer: Answer) -> AsyncGenerator[list[ModelEvent], None]:
    limits = read_rate_limits(answer.headers)
    if limits is not None:
        yield [RateLimits(limits)]
    parser = SseParser(answer.headers.get("openai-model"))
    while not parser.completed and parser.failure is None:
        chunk = await answer.next_chunk()
        events = parser.feed(chunk) if chunk else parser.finish()
        if events:
            yield events
        if not chunk:
            break
    if parser.failure is not None:
        raise parser.failure
    if not parser.completed:
        raise failures.broken_stream("stream closed before response.completed")
    answer.leave()


def request_headers(request: ModelRequest, provider: ProviderSettings) -> dict[str, str]:
    """The headers of a model call, the provider's own last since they win."""
    metadata = request.metadata
    headers = {
        "Accept": "text/event-stream",
        "Content-Type": "application/json",
        "User-Agent": _header_value(request.user_agent),
        "originator": _header_value(request.originator),
        "session-id": request.session_id,
        "thread-id": request.thread_id,
        "x-client-request-id": request.thread_id,
        "x-codex-window-id": _window_id(request),
        "x-codex-turn-metadata": _turn_metadata(request, provider),
    }
    if provider.bearer is not None:
        headers["Authorization"] = f"Bearer {provider.bearer}"
    parent, kind = metadata.get("parent_thread_id"), metadata.get("subagent_kind")
    if parent is not None:
        headers["x-codex-parent-thread-id"] = _header_value(str(parent))
    if kind is not None:
        headers["x-openai-subagent"] = _header_value(_SUBAGENT_LABELS.get(kind, str(kind)))
    own_names = {name.lower(): name for name in headers}
    for name, value in provider.http_headers.items():
        headers.pop(own_names.get(name.lower(), name), None)
        headers[name] = value
    return headers


def request_body(request: ModelRequest, provider: ProviderSettings) -> dict[str, Any]:
    """The body of a model call, its keys in the order of the references."""
    body: dict[str, Any] = {
        "model": request.model,
        "stream": True,
        "input": request.input,
        "tools": request.tools,
        "tool_choice": "auto",
        "parallel_tool_calls": request.parallel_tool_calls,
    }
    if request.reasoning is not None:
        body["reasoning"] = request.reasoning
    body["store"] = False
    body["include"] = ["reasoning.encrypted_content"]
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier
    body["prompt_cache_key"] = request.session_id
    if request.text is not None:
        body["text"] = request.text
    body["client_metadata"] = _client_metadata(request, provider)
    return body


def _client_metadata(request: ModelRequest, provider: ProviderSettings) -> dict[str, str]:
    metadata = {
        "x-codex-window-id": _window_id(request),
        "thread_id": request.thread_id,
        "session_id": request.session_id,
        "root_turn_id": str(request.metadata.get("root_turn_id", request.turn_id)),
        "turn_id": request.turn_id,
    }
    if provider.installation_id is not None:
        metadata["x-codex-installation-id"] = provider.installation_id
    metadata["x-codex-turn-metadata"] = _turn_metadata(request, provider)
    return metadata


def _turn_metadata(request: ModelRequest, provider: ProviderSettings) -> str:
    """The turn metadata as ASCII JSON, since it travels as a header too."""
    known: Mapping[str, Any] = {
        **({"installation_id": provider.installation_id} if provider.installation_id else {}),
        "session_id": request.session_id,
        "thread_id": request.thread_id,
        "agent_name": request.metadata.get("agent_name", "/root"),
        "turn_id": request.turn_id,
        "window_id": _window_id(request),
        "window_number": request.window,
        "request_kind": request.request_kind,
        "root_turn_id": request.metadata.get("root_turn_id", request.turn_id),
        "model": request.model,
    }
    effort = (request.reasoning or {}).get("effort")
    if effort is not None:
        known = {**known, "reasoning_effort": effort}
    # What the client added can extend the metadata, never falsify it.
    return json.dumps({**request.metadata, **known}, separators=(",", ":"))


def _window_id(request: ModelRequest) -> str:
    return f"{request.thread_id}:{request.window}"


def _header_value(text: str) -> str:
    """`text` as a header may carry it: what is not printable ASCII becomes an underscore."""
    return "".join(char if " " <= char <= "~" else "_" for char in text)
