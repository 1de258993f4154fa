"""Exchanges with a model, recorded to a file and played back without one.

A cassette is JSON lines: a head with the format's version, then for each exchange the portrait of
its request followed by its events. It is meant to be read, reviewed and committed: secrets are
masked, ids and times that vary are not compared. Playing checks every request against the recorded
one and refuses at the first difference, so that a recorded demo or test cannot pass by accident.
The threads of one cassette play one after another, never at once.
"""

import asyncio
import difflib
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from treadle.domain.failures import FailureKind
from treadle.engine.model.model_client import (
    ModelClient,
    ModelError,
    ModelEvent,
    ModelRequest,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    RateLimits,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ReasoningTextDelta,
    ResponseCompleted,
    ResponseStarted,
    Retrying,
    ToolInputDelta,
)
from treadle.engine.model.portrait import (
    WORKSPACE,
    change_texts,
    draw_portrait,
    find_workspace,
    mask_secrets,
)
from treadle.engine.model.retry import RequestRetrying, Sleep

FORMAT_VERSION = 1
DIFF_LINES = 24
"""Most lines of a difference that an error shows."""

_EVENTS: dict[str, type[ModelEvent]] = {
    "started": ResponseStarted,
    "item-added": OutputItemAdded,
    "text": OutputTextDelta,
    "summary-part": ReasoningSummaryPartAdded,
    "summary": ReasoningSummaryDelta,
    "reasoning": ReasoningTextDelta,
    "tool-input": ToolInputDelta,
    "item-done": OutputItemDone,
    "rate-limits": RateLimits,
    "completed": ResponseCompleted,
    "retrying": Retrying,
    "request-retrying": RequestRetrying,
}
_decode_line = msgspec.json.Decoder(dict[str, Any]).decode
_NAMES = {kind: name for name, kind in _EVENTS.items()}


class _Threads:
    """Names threads by the order of their first request, and knows their last input."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._inputs: dict[str, list[dict[str, Any]]] = {}

    def portray(self, request: ModelRequest) -> dict[str, Any]:
        thread_id = request.thread_id
        name = self._names.setdefault(thread_id, f"thread-{len(self._names) + 1}")
        portrait = draw_portrait(request, self._inputs.get(thread_id, []), name)
        self._inputs[thread_id] = list(request.input)
        return portrait


class CassetteRecorder:
    """A `ModelClient` that writes down what another one does."""

    def __init__(self, inner: ModelClient, path: Path) -> None:
        """Record `inner` to `path`, replacing a file that is there with the first exchange."""
        self._inner = inner
        self._path = path
        self._threads = _Threads()
        self._begun = False

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        """As the inner client's; the exchange is written when it ends, however it ends.

        Raises:
            ModelError: as the inner client.
        """
        lines: list[dict[str, Any]] = [{"request": self._threads.portray(request)}]
        events: list[ModelEvent] = []
        failure: ModelError | None = None
        try:
            async with aclosing(self._inner.stream(request)) as batches:
                async for batch in batches:
                    events += batch
                    yield batch
        except ModelError as error:
            failure = error
            raise
        finally:
            lines += _event_lines(events, find_workspace(request))
            if failure is not None:
                lines.append({"error": _error_members(failure)})
            self._write(lines)

    async def close(self) -> None:
        """Close the inner client."""
        await self._inner.close()

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if not self._begun:
            lines = [{"treadle_cassette": FORMAT_VERSION}, *lines]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with self._path.open("a" if self._begun else "w", encoding="utf-8") as file:
            file.write(text)
        self._begun = True


class _Exchange(msgspec.Struct):
    request: dict[str, Any]
    lines: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])


class CassettePlayer:
    """A `ModelClient` that answers from a recording."""

    def __init__(
        self, path: Path, *, pace_seconds: float = 0.0, sleep: Sleep = asyncio.sleep
    ) -> None:
        """Play `path`, which is read at the first request.

        Args:
            path: the recording.
            pace_seconds: pause before each event, so that an answer streams visibly.
            sleep: waits for seconds.
        """
        self._path = path
        self._pace_seconds = pace_seconds
        self._sleep = sleep
        self._threads = _Threads()
        self._exchanges: list[_Exchange] | None = None
        self._played = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[ModelEvent], None]:
        """Answer as recorded.

        Raises:
            ModelError: as recorded; or the file cannot be played, has no exchange left, or its
                next request differs from this one, with the difference in the message.
        """
        exchange = self._take(self._threads.portray(request))
        workspace = find_workspace(request)
        for line in exchange.lines:
            if "error" in line:
                raise _recorded_error(line["error"])
            for event in _read_events(line, workspace):
                if self._pace_seconds > 0:
                    await self._sleep(self._pace_seconds)
                yield [event]
        if not any(line.get("event") == "completed" for line in exchange.lines):
            raise _unplayable(f"exchange {self._played} was left early when it was recorded")

    async def close(self) -> None:
        """Nothing to release."""

    def _take(self, asked: dict[str, Any]) -> _Exchange:
        if self._exchanges is None:
            self._exchanges = _load(self._path)
        number = self._played + 1
        if number > len(self._exchanges):
            raise _unplayable(
                f"{self._path.name} holds {len(self._exchanges)} exchanges and this is request "
                f"{number}; record it again"
            )
        exchange = self._exchanges[self._played]
        if not _matches(exchange.request, asked):
            difference = _difference(exchange.request, asked)
            raise _unplayable(f"request {number} differs from {self._path.name}:\n{difference}")
        self._played = number
        return exchange


def _matches(recorded: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether a request is the recorded one; tools that came later do not make it another."""
    offered: set[str] = set(asked.get("tools") or ())
    known: set[str] = set(recorded.get("tools") or ())
    return known <= offered and {**recorded, "tools": None} == {**asked, "tools": None}


# -------------------------------------------------------------------- lines of a cassette


def _event_lines(events: list[ModelEvent], workspace: str | None) -> Iterator[dict[str, Any]]:
    """Events as lines; consecutive text of one message shares a line, its pieces kept."""

    def clean(text: str) -> str:
        text = mask_secrets(text)
        return text.replace(workspace, WORKSPACE) if workspace else text

    texts: list[str] = []
    item_id: str | None = None
    for event in [*events, None]:
        if texts and not (isinstance(event, OutputTextDelta) and event.item_id == item_id):
            yield {"event": "text", "item_id": item_id, "deltas": _clean_pieces(texts, clean)}
            texts = []
        if isinstance(event, OutputTextDelta):
            texts.append(event.delta)
            item_id = event.item_id
        elif event is not None:
            members = msgspec.to_builtins(event)
            if isinstance(event, OutputItemDone | OutputItemAdded):
                # Sealed by the provider: of no use to a reader, and half of the file.
                members["item"].pop("encrypted_content", None)
            yield {"event": _NAMES[type(event)], **change_texts(members, clean)}


def _clean_pieces(pieces: list[str], clean: Any) -> list[str]:
    """The pieces, cleaned; as one when what must go spans several."""
    whole = clean("".join(pieces))
    cleaned = [clean(piece) for piece in pieces]
    return cleaned if "".join(cleaned) == whole else [whole]


def _read_events(line: dict[str, Any], workspace: str | None) -> Iterator[ModelEvent]:
    members = {name: value for name, value in line.items() if name != "event"}
    if workspace:
        members = change_texts(members, lambda text: text.replace(WORKSPACE, workspace))
    if line["event"] == "text":
        for delta in members["deltas"]:
            yield OutputTextDelta(delta, members["item_id"])
        return
    yield msgspec.convert(members, _EVENTS[line["event"]])


def _load(path: Path) -> list[_Exchange]:
    """Read a recording; raises ModelError when it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unplayable(f"{path.name} cannot be read: {type(error).__name__}") from error
    exchanges: list[_Exchange] = []
    for number, raw_line in enumerate(text.splitlines(), start=1):
        try:
            line = _decode_line(raw_line)
            _check_line(line, first=number == 1, begun=bool(exchanges))
        except (ValueError, KeyError, msgspec.MsgspecError) as error:
            raise _unplayable(f"{path.name}, line {number}: {error}") from error
        if "request" in line:
            exchanges.append(_Exchange(line["request"]))
        elif number > 1:
            exchanges[-1].lines.append(line)
    return exchanges


def _check_line(line: dict[str, Any], *, first: bool, begun: bool) -> None:
    """Raises ValueError, KeyError or MsgspecError when the line may not stand where it does."""
    if first:
        if line.get("treadle_cassette") != FORMAT_VERSION:
            raise ValueError(f"a cassette of format {FORMAT_VERSION} starts with its version")
        return
    if "request" in line:
        return
    if not begun:
        raise ValueError("expected a request before anything else")
    if "error" in line:
        _recorded_error(line["error"])
    elif line["event"] in _EVENTS:
        list(_read_events(line, None))
    else:
        raise ValueError(f"unknown event {line['event']!r}")


def _error_members(error: ModelError) -> dict[str, Any]:
    return {
        "message": mask_secrets(error.message),
        "info": error.info,
        "kind": error.kind.value,
        "retry_request": error.retry_request,
        "retry_stream": error.retry_stream,
        "retry_after_seconds": error.retry_after_seconds,
        "http_status": error.http_status,
        "details": None if error.details is None else mask_secrets(error.details),
    }


def _recorded_error(members: dict[str, Any]) -> ModelError:
    return ModelError(
        str(members["message"]),
        info=members.get("info", "other"),
        kind=FailureKind(members.get("kind", FailureKind.BACKEND_UNKNOWN)),
        retry_request=bool(members.get("retry_request")),
        retry_stream=bool(members.get("retry_stream")),
        retry_after_seconds=members.get("retry_after_seconds"),
        http_status=members.get("http_status"),
        details=members.get("details"),
    )


def _difference(recorded: dict[str, Any], asked: dict[str, Any]) -> str:
    lines = difflib.unified_diff(
        json.dumps(recorded, indent=1, ensure_ascii=False).splitlines(),
        json.dumps(asked, indent=1, ensure_ascii=False).splitlines(),
        "recorded",
        "asked",
        n=1,
        lineterm="",
    )
    shown = list(lines)
    if len(shown) > DIFF_LINES:
        left_out = len(shown) - DIFF_LINES
        shown = [*shown[:DIFF_LINES], f"... {left_out} more lines"]
    return "\n".join(shown)


def _unplayable(detail: str) -> ModelError:
    return ModelError(
        f"the cassette cannot answer: {detail}",
        info="badRequest",
        kind=FailureKind.BACKEND_RESPONSE_INVALID,
    )
