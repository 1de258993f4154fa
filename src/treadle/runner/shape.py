"""From the backend's notifications to durable events, or to a count of what was left out.

One `Shaper` per turn. Text and output are gathered and come out as few events: at the latest before
the next durable event, or when `drain` is called. Reasoning, usage, limits and warnings are
counted, never stored. Pure: redaction of streams is handed in, time is the caller's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from treadle.domain.failures import Failure

TEXT_LIMIT_CHARS = 64_000
PROGRESS_LIMIT_CHARS = 8_000
OUTPUT_EVENT_LIMIT_CHARS = 16_000
OUTPUT_ITEM_LIMIT_CHARS = 512_000
SUMMARY_LIMIT_CHARS = 400

Json = dict[str, Any]

TOOL_TYPES = frozenset(
    {
        "commandExecution",
        "fileChange",
        "webSearch",
        "mcpToolCall",
        "dynamicToolCall",
        "collabAgentToolCall",
        "imageView",
        "imageGeneration",
    }
)

# The protocol's own bookkeeping: what it says is told by phases, so it counts as nothing left out.
_BOOKKEEPING = frozenset(
    {
        "thread/started",
        "thread/status/changed",
        "thread/settings/updated",
        "turn/started",
        "turn/completed",
        "serverRequest/resolved",
        "remoteControl/status/changed",
        "error",
    }
)
_QUIET_ITEMS = frozenset({"agentMessage", "userMessage"})


class TextStream(Protocol):
    """A flow of text that is made safe piece by piece."""

    def feed(self, piece: str) -> str:
        """Take a piece, give what is certain."""
        ...

    def flush(self) -> str:
        """Give the rest."""
        ...


@dataclass(frozen=True, slots=True)
class Draft:
    """An event on its way to the log."""

    type: str
    payload: Json


def status(phase: str, **facts: Any) -> Draft:
    """A `backend_status` event."""
    return Draft("backend_status", {"phase": phase, **facts})


def error(failure: Failure, *, will_retry: bool = False) -> Draft:
    """The `error` event of a failure."""
    payload: Json = {
        "failureKind": failure.kind.value,
        "message": failure.message,
        "willRetry": will_retry,
        "retryable": failure.facts.retryable,
    }
    if failure.http_status is not None:
        payload["httpStatus"] = failure.http_status
    return Draft("error", payload)


@dataclass(slots=True)
class _Flow:
    """One item's text or output."""

    stream: TextStream
    text: str = ""
    fresh: bool = False
    chars: int = 0
    """Of a message: how long it is. Of an output: how much has been given."""


@dataclass(slots=True)
class Shaper:
    """What one turn's notifications come to."""

    new_stream: Callable[[], TextStream]
    methods: dict[str, int] = field(default_factory=dict[str, int])
    item_types: dict[str, int] = field(default_factory=dict[str, int])
    _messages: dict[str, _Flow] = field(default_factory=dict[str, _Flow])
    _outputs: dict[str, _Flow] = field(default_factory=dict[str, _Flow])

    @property
    def has_pending(self) -> bool:
        """Whether `drain` would give anything."""
        flows = (*self._messages.values(), *self._outputs.values())
        return any(flow.fresh for flow in flows)

    def take(self, method: str, params: Json) -> list[Draft]:
        """The events that a notification of this turn gives, in order; often none."""
        if method == "item/agentMessage/delta":
            flow = self._gather(self._messages, params)
            flow.chars += len(str(params.get("delta") or ""))
            flow.text = flow.text[-PROGRESS_LIMIT_CHARS:]
            return []
        if method == "item/commandExecution/outputDelta":
            return self._gather_output(params)
        item = params.get("item")
        if method in {"item/started", "item/completed"} and isinstance(item, dict):
            return self._item(method, cast("Json", item))
        if method not in _BOOKKEEPING:
            self.suppress(method, "reasoning" if method.startswith("item/reasoning/") else None)
        return []

    def suppress(self, method: str, item_type: str | None = None) -> None:
        """Count a notification that is not stored."""
        self.methods[method] = self.methods.get(method, 0) + 1
        if item_type is not None:
            self.item_types[item_type] = self.item_types.get(item_type, 0) + 1

    def drain(self) -> list[Draft]:
        """What has been gathered and not been given yet."""
        drafts: list[Draft] = []
        for item_id, flow in self._messages.items():
            if flow.fresh:
                flow.fresh = False
                drafts.append(_progress(item_id, flow))
        for item_id, flow in self._outputs.items():
            drafts += _output(item_id, flow)
        return drafts

    def summary(self) -> list[Draft]:
        """What was left out; names are values, never keys, for redaction judges keys by name."""
        if not self.methods:
            return []
        return [
            status(
                "codex-app-server-notifications-suppressed",
                total=sum(self.methods.values()),
                methods=[{"method": m, "count": n} for m, n in sorted(self.methods.items())],
                itemTypes=[{"itemType": t, "count": n} for t, n in sorted(self.item_types.items())],
            )
        ]

    def _flow(self, flows: dict[str, _Flow], item_id: str) -> _Flow:
        if item_id not in flows:
            flows[item_id] = _Flow(self.new_stream())
        return flows[item_id]

    def _gather(self, flows: dict[str, _Flow], params: Json) -> _Flow:
        flow = self._flow(flows, str(params.get("itemId") or ""))
        safe = flow.stream.feed(str(params.get("delta") or ""))
        if safe:
            flow.text += safe
            flow.fresh = True
        return flow

    def _gather_output(self, params: Json) -> list[Draft]:
        flow = self._gather(self._outputs, params)
        if len(flow.text) < OUTPUT_EVENT_LIMIT_CHARS:
            return []
        return _output(str(params.get("itemId") or ""), flow)

    def _item(self, method: str, item: Json) -> list[Draft]:
        kind, item_id = str(item.get("type") or ""), str(item.get("id") or "")
        if kind == "agentMessage" and method == "item/completed":
            return self._message_done(item_id, str(item.get("text") or ""))
        if kind in TOOL_TYPES:
            before = self.drain() if method == "item/started" else self._tool_done(item_id, item)
            return [*before, _tool_call(method, kind, item_id, item)]
        if kind not in _QUIET_ITEMS:
            self.suppress(method, kind or None)
        return []

    def _message_done(self, item_id: str, text: str) -> list[Draft]:
        # The whole message makes its own unsent progress worthless, but not that of others.
        self._messages.pop(item_id, None)
        payload = _capped(text, TEXT_LIMIT_CHARS)
        payload |= {"itemId": item_id, "source": "completed-agent-message", "replyAuthority": False}
        return [*self.drain(), Draft("assistant_message", payload)]

    def _tool_done(self, item_id: str, item: Json) -> list[Draft]:
        flow = self._outputs.get(item_id)
        whole = item.get("aggregatedOutput")
        if flow is None and isinstance(whole, str) and whole:
            # Short commands may end without one delta; their output is in the finished item only.
            flow = self._flow(self._outputs, item_id)
            flow.text, flow.fresh = flow.stream.feed(whole), True
        if flow is not None:
            rest = flow.stream.flush()
            flow.text, flow.fresh = flow.text + rest, flow.fresh or bool(rest)
        drafts = self.drain()
        self._outputs.pop(item_id, None)
        return drafts


def _progress(item_id: str, flow: _Flow) -> Draft:
    payload: Json = {"text": flow.text}
    if flow.chars > PROGRESS_LIMIT_CHARS:
        payload |= {"truncated": True, "totalChars": flow.chars}
    payload |= {"itemId": item_id, "source": "agent-message-delta-progress"}
    return Draft("assistant_message", {**payload, "replyAuthority": False, "progress": True})


def _output(item_id: str, flow: _Flow) -> list[Draft]:
    """Events for the gathered output; past the item's bound one last event says what was cut."""
    if not flow.fresh:
        return []
    text, flow.text, flow.fresh = flow.text, "", False
    room = OUTPUT_ITEM_LIMIT_CHARS - flow.chars
    flow.chars += len(text)
    if room <= 0:
        return []
    drafts = [
        Draft("command_output", {"text": piece, "itemId": item_id})
        for piece in _pieces(text[:room], OUTPUT_EVENT_LIMIT_CHARS)
    ]
    if len(text) > room:
        drafts[-1].payload["truncated"] = True
    return drafts


def _pieces(text: str, size: int) -> Iterable[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def _capped(text: str, limit: int) -> Json:
    if len(text) <= limit:
        return {"text": text}
    return {"text": text[:limit], "truncated": True, "totalChars": len(text)}


def _tool_call(method: str, kind: str, item_id: str, item: Json) -> Draft:
    stage = "started" if method == "item/started" else "completed"
    state = item.get("status")
    if stage == "completed" and state in {"failed", "declined"}:
        stage = str(state)
    label = _label(kind, item)
    text = f"{kind} {stage}: {label}" if label else f"{kind} {stage}"
    payload: Json = {
        "method": method,
        "type": kind,
        "toolName": item.get("tool") if kind in {"mcpToolCall", "dynamicToolCall"} else kind,
        "itemId": item_id,
        "summary": {"text": text[:SUMMARY_LIMIT_CHARS]},
    }
    facts = {name: item.get(name) for name in ("status", "exitCode", "durationMs")}
    payload.update((name, value) for name, value in facts.items() if isinstance(value, int | str))
    return Draft("tool_call", payload)


def _label(kind: str, item: Json) -> str:
    if kind == "fileChange":
        changes = cast("list[Json]", item.get("changes") or [])
        return ", ".join(str(change.get("path")) for change in changes)
    if kind == "mcpToolCall":
        return f"{item.get('server')}.{item.get('tool')}"
    names = {"webSearch": "query", "imageView": "path", "commandExecution": "command"}
    return str(item.get(names.get(kind, "tool")) or "")
