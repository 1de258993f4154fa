"""A model provider that costs next to nothing: whole answers, made beforehand, over HTTP/1.1.

Speaks as much of the Responses API as a turn needs. A request whose last words are `run` gets a
call of a command, any other a short message. Nothing is kept of what comes in.
"""

import asyncio
import itertools
import json
from typing import Any

COMMAND = "true"


def _stream(*events: dict[str, Any]) -> bytes:
    body = b"".join(
        b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), json.dumps(event).encode())
        for event in events
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _created() -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": "r"}}


def _completed() -> dict[str, Any]:
    usage: dict[str, Any] = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return {"type": "response.completed", "response": {"id": "r", "usage": usage}}


def _message(text: str) -> bytes:
    item = {"type": "message", "role": "assistant", "id": "m"}
    said = [{"type": "output_text", "text": text}]
    begun = {"type": "response.output_item.added", "output_index": 0}
    delta = {"type": "response.output_text.delta", "item_id": "m", "delta": text}
    done = {"type": "response.output_item.done", "output_index": 0}
    return _stream(
        _created(),
        {**begun, "item": {**item, "content": list[Any]()}},
        {**delta, "output_index": 0, "content_index": 0},
        {**done, "item": {**item, "content": said}},
        _completed(),
    )


def _call(tool: str, arguments: dict[str, Any], number: int) -> bytes:
    item = {"type": "function_call", "call_id": f"call-{number}", "name": tool}
    item["arguments"] = json.dumps(arguments)
    return _stream(
        _created(),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        _completed(),
    )


_REPLY = _message("Done")
_MODELS = (
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"models":[]}'
)


class _Connection(asyncio.Protocol):
    """One connection: requests in, answers out, one after another."""

    def __init__(self, numbers: "itertools.count[int]") -> None:
        self._numbers = numbers
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, _, length = head.partition(b"content-length:")
            size = int(length.split(b"\r\n", 1)[0] or 0)
            if len(self._buffer) < end + 4 + size:
                return
            body = self._buffer[end + 4 : end + 4 + size]
            self._buffer = self._buffer[end + 4 + size :]
            answer = _MODELS if head.startswith(b"get") else self._answer(body)
            self._transport.write(answer)

    def _answer(self, body: bytes) -> bytes:
        if not self._wants_command(body):
            return _REPLY
        number = next(self._numbers)
        if b'"exec_command"' in body:
            return _call("exec_command", {"cmd": COMMAND}, number)
        if b'"shell_command"' in body:
            return _call("shell_command", {"command": COMMAND}, number)
        return _call("shell", {"command": [COMMAND]}, number)

    def _wants_command(self, body: bytes) -> bool:
        """Whether the last thing said is the word `run`: cheap, since prompts of a bench vary."""
        said = body.rfind(b'"text":"run"')
        return said >= 0 and body.find(b'"function_call_output"', said) < 0


class BenchModel:
    """Listens on a free local port while its context is open."""

    async def __aenter__(self) -> "BenchModel":
        numbers = itertools.count()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(numbers), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
