"""A scriptable provider of the Responses API for tests: HTTP/1.1 and SSE on the standard library.

    async with FakeProvider() as provider:
        provider.script(reply("Hello"), Step(status=500, body="down"))
        ... point the code under test at provider.url ...
        assert provider.requests[0].body["model"] == "mock-model"

Each request takes the next step; without one it is answered with `default`. `requests` records what
came in, in order; `wait_requests` waits for it.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

Event = dict[str, Any]

WAIT_SECONDS = 10.0
"""Bound of every wait in here; a test that reaches it has failed."""


# ---------------------------------------------------------------- events


def event(type: str, **members: Any) -> Event:
    """Any event of the API."""
    return {"type": type, **members}


def created(response_id: str = "resp-1") -> Event:
    return event("response.created", response={"id": response_id})


def completed(
    response_id: str = "resp-1",
    *,
    input_tokens: int = 10,
    output_tokens: int = 5,
    cached_tokens: int = 0,
    reasoning_tokens: int = 0,
) -> Event:
    """The end of a response; total is the sum of input and output."""
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }
    return event("response.completed", response={"id": response_id, "usage": usage})


def failed(code: str, message: str = "boom") -> Event:
    return event(
        "response.failed",
        response={"id": "resp-1", "status": "failed", "error": {"code": code, "message": message}},
    )


def incomplete(reason: str) -> Event:
    return event("response.incomplete", response={"incomplete_details": {"reason": reason}})


def item_added(item: dict[str, Any]) -> Event:
    return event("response.output_item.added", output_index=0, item=item)


def item_done(item: dict[str, Any]) -> Event:
    return event("response.output_item.done", output_index=0, item=item)


def text_delta(delta: str, item_id: str = "msg-1") -> Event:
    return event(
        "response.output_text.delta",
        item_id=item_id,
        output_index=0,
        content_index=0,
        delta=delta,
    )


def message(text: str, item_id: str = "msg-1", deltas: Iterable[str] | None = None) -> list[Event]:
    """An assistant message that streams as `deltas` (by default: the text as one)."""
    head = {"type": "message", "role": "assistant", "id": item_id}
    return [
        item_added({**head, "content": []}),
        *(text_delta(part, item_id) for part in (deltas if deltas is not None else [text])),
        item_done({**head, "content": [{"type": "output_text", "text": text}]}),
    ]


def reasoning(summary: str, item_id: str = "rs-1", encrypted: str = "sealed") -> list[Event]:
    """A reasoning item with one summary part."""
    part = {"type": "summary_text", "text": summary}
    return [
        item_added({"type": "reasoning", "id": item_id, "summary": []}),
        event("response.reasoning_summary_part.added", item_id=item_id, summary_index=0),
        event(
            "response.reasoning_summary_text.delta",
            item_id=item_id,
            summary_index=0,
            delta=summary,
        ),
        item_done(
            {
                "type": "reasoning",
                "id": item_id,
                "summary": [part],
                "encrypted_content": encrypted,
            }
        ),
    ]


def function_call(name: str, arguments: Any, call_id: str = "call-1") -> Event:
    """A call of a function tool; `arguments` is encoded unless it is text already."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return item_done(
        {
            "type": "function_call",
            "id": f"fc-{call_id}",
            "call_id": call_id,
            "name": name,
            "arguments": text,
        }
    )


def custom_tool_call(name: str, input: str, call_id: str = "call-1") -> Event:
    """A call of a freeform tool."""
    return item_done(
        {
            "type": "custom_tool_call",
            "id": f"ctc-{call_id}",
            "call_id": call_id,
            "name": name,
            "input": input,
        }
    )


# ---------------------------------------------------------------- steps


@dataclass
class Step:
    """One answer: SSE events, or another status with a body.

    Members of `events`: an event; `str` or `bytes` sent as they are; an `asyncio.Event` at which
    the stream pauses until the test sets it.
    """

    events: list[Event | str | bytes | asyncio.Event] = field(
        default_factory=list[Event | str | bytes | asyncio.Event]
    )
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: str | bytes = ""
    cut: bool = False
    """Break the connection after the last event instead of ending the stream."""
    hang: bool = False
    """Say nothing more after the last event until the client goes or the provider closes."""
    before_head: asyncio.Event | None = None
    """Hold back even the status until this is set."""


def reply(text: str = "Done", **usage: Any) -> Step:
    """A whole response of one message."""
    return Step([created(), *message(text), completed(**usage)])


def calls(*items: Event, **usage: Any) -> Step:
    """A whole response of tool calls (and whatever other events are given)."""
    return Step([created(), *items, completed(**usage)])


def http_error(status: int, message: str = "boom", **error: Any) -> Step:
    """A refusal with a JSON body; `error` are further members such as `code` and `type`."""
    return Step(status=status, body=json.dumps({"error": {"message": message, **error}}))


def encode(item: Event | str | bytes) -> bytes:
    """An event as it goes over the wire."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    return f"event: {item['type']}\ndata: {json.dumps(item)}\n\n".encode()


OUTPUT_OF = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "local_shell_call": "function_call_output",
}


def history_fault(items: list[dict[str, Any]]) -> str | None:
    """What a strict provider would refuse in a request's input; None when nothing."""
    waiting: dict[str, str] = {}
    for at, item in enumerate(items):
        kind = item["type"]
        if kind in OUTPUT_OF:
            if item["call_id"] in waiting:
                return f"input[{at}]: call {item['call_id']} is made again before its output"
            waiting[item["call_id"]] = OUTPUT_OF[kind]
        elif kind.endswith("_call_output"):
            if waiting.pop(item["call_id"], None) != kind:
                return f"input[{at}]: no call for output {item['call_id']}"
        elif kind == "message" and not item["content"]:
            return f"input[{at}]: empty message"
    return f"no output for calls {sorted(waiting)}" if waiting else None


# ---------------------------------------------------------------- the provider


@dataclass
class Recorded:
    """A request as it came in; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    raw_body: bytes
    connection: int
    """Which connection it came over, counted from 1."""

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw_body)


class FakeProvider:
    """Listens on a free local port while its context is open."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.default: Step | None = reply("Done")
        self.strict = False
        """Refuse histories as strict providers do; what was wrong is the answer's message."""
        self.aside: Callable[[Recorded], Step | None] | None = None
        """Answers some requests by itself, which then take no step of the script."""
        self.connections = 0
        """How many were ever opened."""
        self.client_gone = asyncio.Event()
        """Set when a client closed its connection in the middle of an answer."""
        self._steps: deque[Step] = deque()
        self._agent_steps: deque[Step] = deque()
        self._agents_apart = False
        self._arrived = asyncio.Condition()
        self._closing = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FakeProvider":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing.set()
        self._server.close()
        for handler in tuple(self._handlers):
            handler.cancel()
        if self._handlers:
            await asyncio.wait(tuple(self._handlers), timeout=WAIT_SECONDS)

    @property
    def url(self) -> str:
        """The base URL to configure, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *steps: Step) -> None:
        """Answer the next requests with `steps`, in order."""
        self._steps.extend(steps)

    def script_agents(self, *steps: Step) -> None:
        """Answer the next requests of sub-agents with `steps`; the others take those of `script`.

        Once there was one, sub-agents without a step get `default`.
        """
        self._agent_steps.extend(steps)
        self._agents_apart = True

    async def wait_requests(self, count: int) -> None:
        """Return once `count` requests have arrived since the start."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections += 1
        number = self.connections
        try:
            while await self._serve(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.client_gone.set()
        except asyncio.CancelledError:
            pass  # only __aexit__ cancels
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        """Answer one request; whether the connection stays open."""
        line = await reader.readline()
        if not line:
            return False
        method, target, _ = line.decode().split(" ", 2)
        headers: dict[str, str] = {}
        while (line := await reader.readline()).strip():
            name, value = line.decode().split(":", 1)
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        recorded = Recorded(method, target, headers, body, connection)
        async with self._arrived:
            self.requests.append(recorded)
            self._arrived.notify_all()
        step = self.aside(recorded) if self.aside is not None else None
        if step is None:
            agent = self._agents_apart and headers.get("x-openai-subagent") == "collab_spawn"
            steps = self._agent_steps if agent else self._steps
            step = steps.popleft() if steps else self.default
        if step is None:
            step = http_error(500, "the script of the fake provider has ended")
        if self.strict and (fault := history_fault(json.loads(body)["input"])) is not None:
            step = http_error(400, fault)
        if step.before_head is not None:
            await step.before_head.wait()
        if step.status != HTTPStatus.OK or step.body:
            return await self._answer_whole(writer, step)
        return await self._answer_stream(reader, writer, step)

    async def _answer_whole(self, writer: asyncio.StreamWriter, step: Step) -> bool:
        body = step.body if isinstance(step.body, bytes) else step.body.encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        writer.write(_head(step.status, {**headers, **step.headers}) + body)
        await writer.drain()
        return True

    async def _answer_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, step: Step
    ) -> bool:
        headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        writer.write(_head(step.status, {**headers, **step.headers}))
        for item in step.events:
            if isinstance(item, asyncio.Event):
                await writer.drain()
                await self._pause(reader, item)
                continue
            data = encode(item)
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        if step.hang:
            await self._pause(reader, self._closing)
            return False
        if step.cut:
            transport = writer.transport
            transport.abort()
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _pause(self, reader: asyncio.StreamReader, until: asyncio.Event) -> None:
        """Wait for `until`; raises ConnectionError when the client goes first."""
        gone = asyncio.create_task(reader.read(1))
        released = asyncio.create_task(until.wait())
        try:
            await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not released.done():
                raise ConnectionResetError("the client left")
        finally:
            for task in (gone, released):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await task


def _head(status: int, headers: dict[str, str]) -> bytes:
    phrase = HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {text}" for name, text in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
