"""From the bytes of a Responses API event stream to model events. Sans-IO.

Feed chunks as the socket gave them; each feed answers with the events that became whole. A chunk
is handled as one: its data lines are cut out by one pattern and decoded by one call, since a
response may hold a hundred thousand deltas. Owns the wire form of events; knows no socket, no
time and no retries, and stops at the first terminal event.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from treadle.domain.turns import TokenUsage
from treadle.engine.model.model_client import (
    ModelError,
    ModelEvent,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ReasoningTextDelta,
    ResponseCompleted,
    ResponseStarted,
    ToolInputDelta,
)
from treadle.engine.model.provider_errors import broken_stream, incomplete_failure, stream_failure

EVENT_LIMIT_BYTES = 64 * 1024 * 1024
"""Most that one event may hold; a generated image stays well below."""

_DATA_LINE = re.compile(rb"^data:[ ]?(.*)$", re.MULTILINE)
_TEXT_DELTA = "response.output_text.delta"


class _WireEvent(msgspec.Struct, gc=False):
    """The members that any event of interest may have; all others are skipped undecoded."""

    type: str
    delta: str = ""
    item_id: str | None = None
    summary_index: int = 0
    content_index: int = 0
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()


class _TokenDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _TokenDetails | None = None
    output_tokens_details: _TokenDetails | None = None


class _IncompleteDetails(msgspec.Struct):
    reason: str | None = None


_decode_events = msgspec.json.Decoder(_WireEvent).decode_lines
_decode_event = msgspec.json.Decoder(_WireEvent).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class SseParser:
    """The events of one response.

    Attributes:
        completed: `response.completed` was seen; nothing after it counts.
        failure: what `response.failed` or `response.incomplete` said, to be raised by the caller
            after the events before it.
    """

    def __init__(self, model: str | None = None) -> None:
        """Start before the first byte; `model` is the one that the answer's headers named."""
        self.completed = False
        self.failure: ModelError | None = None
        self._model = model
        self._started = False
        self._pending = bytearray()
        self._held_return = False

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        """Take bytes as they arrive; the events that they complete, in order."""
        if self.completed or self.failure is not None:
            return []
        if self._held_return or b"\r" in chunk:
            chunk = self._unify_line_ends(chunk)
        pending = self._pending
        if not pending and chunk.endswith(b"\n\n"):
            return self._read(chunk)
        search_from = max(0, len(pending) - 1)
        pending += chunk
        end = pending.rfind(b"\n\n", search_from)
        if end < 0:
            if len(pending) > EVENT_LIMIT_BYTES:
                self.failure = broken_stream("an event of the stream exceeds every sensible size")
            return []
        whole = bytes(pending[: end + 2])
        del pending[: end + 2]
        return self._read(whole)

    def finish(self) -> list[ModelEvent]:
        """The stream ended: a last event without its blank line counts all the same."""
        if self.completed or self.failure is not None or not self._pending:
            return []
        rest = bytes(self._pending)
        self._pending.clear()
        return self._read(rest)

    def _unify_line_ends(self, chunk: bytes) -> bytes:
        """Turn CR LF and CR into LF; a final CR waits, its LF may come with the next chunk."""
        if self._held_return:
            chunk = b"\r" + chunk
        self._held_return = chunk.endswith(b"\r")
        if self._held_return:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, whole: bytes) -> list[ModelEvent]:
        if not self._started:
            whole = whole.removeprefix(b"\xef\xbb\xbf")
        lines = _DATA_LINE.findall(whole)
        if not lines:
            return []
        try:
            wire_events = _decode_events(b"\n".join(lines))
        except (msgspec.DecodeError, UnicodeDecodeError):
            wire_events = _decode_one_by_one(whole)
        events: list[ModelEvent] = []
        append = events.append
        for wire in wire_events:
            if wire.type == _TEXT_DELTA:
                append(OutputTextDelta(wire.delta, wire.item_id))
                continue
            read = _READERS.get(wire.type)
            if read is not None:
                read(self, wire, events)
                if self.completed or self.failure is not None:
                    break
        if events and not self._started:
            self._started = True
            if type(events[0]) is not ResponseStarted:
                events.insert(0, ResponseStarted(None, self._model))
        return events

    # ------------------------------------------------------------------ events other than text

    def _created(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        if not self._started and not events:
            events.append(ResponseStarted(_id_of(_object(wire.response)), self._model))

    def _item_added(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        item = _object(wire.item)
        if item:
            events.append(OutputItemAdded(item))

    def _item_done(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        item = _object(wire.item)
        if item:
            events.append(OutputItemDone(item))

    def _summary_part(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        events.append(ReasoningSummaryPartAdded(wire.item_id, wire.summary_index))

    def _summary_text(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        events.append(ReasoningSummaryDelta(wire.delta, wire.item_id, wire.summary_index))

    def _reasoning_text(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        events.append(ReasoningTextDelta(wire.delta, wire.item_id, wire.content_index))

    def _tool_input(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        events.append(ToolInputDelta(wire.delta, wire.item_id))

    def _completed(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        response = _object(wire.response)
        end_turn = response.get("end_turn")
        self.completed = True
        events.append(
            ResponseCompleted(
                response_id=_id_of(response),
                usage=_usage(response.get("usage")),
                end_turn=end_turn if isinstance(end_turn, bool) else None,
            )
        )

    def _failed(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        self.failure = stream_failure(_object(wire.response).get("error"))

    def _incomplete(self, wire: _WireEvent, events: list[ModelEvent]) -> None:
        details: Any = _object(wire.response).get("incomplete_details") or {}
        try:
            reason = msgspec.convert(details, _IncompleteDetails).reason
        except msgspec.ValidationError:
            reason = None
        self.failure = incomplete_failure(reason or "unknown")

    READERS: dict[str, Callable[["SseParser", _WireEvent, list[ModelEvent]], None]] = {
        "response.created": _created,
        "response.output_item.added": _item_added,
        "response.output_item.done": _item_done,
        "response.reasoning_summary_part.added": _summary_part,
        "response.reasoning_summary_text.delta": _summary_text,
        "response.reasoning_text.delta": _reasoning_text,
        "response.custom_tool_call_input.delta": _tool_input,
        "response.completed": _completed,
        "response.failed": _failed,
        "response.incomplete": _incomplete,
    }
    """Event types that mean something here; every other type is ignored."""


_READERS = SseParser.READERS


def _decode_one_by_one(whole: bytes) -> list[_WireEvent]:
    """The slow road, when something in the batch is not JSON or spans several data lines."""
    decoded: list[_WireEvent] = []
    for block in whole.split(b"\n\n"):
        data = b"\n".join(_DATA_LINE.findall(block))
        if not data:
            continue
        try:
            decoded.append(_decode_event(data))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return decoded


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    """The JSON object in `raw`; empty when it is missing or something else."""
    try:
        return _decode_object(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _id_of(response: dict[str, Any]) -> str | None:
    value = response.get("id")
    return value if isinstance(value, str) else None


def _usage(raw: Any) -> TokenUsage | None:
    if not isinstance(raw, dict):
        return None
    try:
        usage = msgspec.convert(raw, _Usage)
    except msgspec.ValidationError:
        return None
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    of_input = usage.input_tokens_details or _TokenDetails()
    of_output = usage.output_tokens_details or _TokenDetails()
    return TokenUsage(
        total_tokens=read + written if usage.total_tokens is None else usage.total_tokens,
        input_tokens=read,
        cached_input_tokens=of_input.cached_tokens or 0,
        cache_write_input_tokens=of_input.cache_write_tokens or 0,
        output_tokens=written,
        reasoning_output_tokens=of_output.reasoning_tokens or 0,
    )
