"""Rollout lines of Codex, from and to Treadle's records.

`LineWriter` spells records as lines that both generations of readers understand; `LineReader`
folds lines of either generation, of files from before both, and of anything else into records. A
line that cannot be read is skipped and counted, never fatal. Knows no files.
"""

from collections.abc import Callable
from typing import Any, ClassVar, cast

import msgspec

from treadle.domain.items import AgentMessage, Reasoning, StoredItem, TextInput, UserMessage
from treadle.domain.records import (
    ContextReplaced,
    Foreign,
    ItemDone,
    ModelItem,
    SettingsApplied,
    ThreadRecord,
    TurnContext,
    TurnEnded,
    TurnStarted,
    UsageRecorded,
)
from treadle.domain.turns import ThreadTokenUsage, TokenUsage, TurnError
from treadle.engine.store.local.file_heads import created_from_file
from treadle.engine.store.local.file_items import item_from_file
from treadle.engine.store.local.file_settings import settings_from_file
from treadle.engine.store.local.legacy_events import event_to_item
from treadle.engine.store.local.lines import (
    NOTHING,
    AgentSaid,
    ContextLine,
    EventLine,
    FrequentLine,
    ItemCompleted,
    ItemLine,
    Line,
    TaskComplete,
    TaskStarted,
    TokenCount,
    UserSaid,
    decode_block,
    decode_event,
    decode_line,
    shown,
    usage_of,
)
from treadle.engine.store.local.names import camel, respell_error
from treadle.kit.clock import parse_iso

Json = dict[str, Any]

_MODEL_ITEMS = frozenset(
    ("message", "reasoning", "function_call", "function_call_output", "local_shell_call")
)

_PASSED = b"internal_chat_message_metadata_passthrough"
_FAULTS = (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError)
_objects = msgspec.json.Decoder()


class LineReader:
    """Folds the lines of one thread, in order, into records.

    `records` grows as lines come; `skipped` counts unreadable ones; `next_ordinal` is None until
    a line with an ordinal was seen; `built_on_another` says that the first head names a file that
    comes before this one.
    """

    def __init__(self, provider: str = "") -> None:
        """Begin a log, or look at single lines of one whose head names `provider`."""
        self.records: list[ThreadRecord] = []
        self.skipped = 0
        self.next_ordinal: int | None = None
        self.built_on_another = False
        self._thread_id = ""
        self._id_stem = ""
        self._provider = provider
        self._turn_id: str | None = None
        self._implied = False
        self._invented = 0
        self._fresh = 0
        self._at = 0.0
        self._stamp: str | None = None
        self._starts: list[int] = []
        self._error: TurnError | None = None
        self._reasoning: int | None = None

    def feed(self, block: bytes) -> None:
        """Read further whole lines; one unusual line is a reason to read a block's lines singly."""
        lines = decode_block(block)
        if lines is not None:
            self._frequent(lines)
            return
        for raw in block.split(b"\n"):
            if raw and not raw.isspace():
                self._single(raw)

    def finish(self) -> list[ThreadRecord]:
        """Everything read; a turn that only its messages told of ends here."""
        self._end_implied()
        return self.records

    def _frequent(self, lines: list[FrequentLine]) -> None:
        """Lines that need no second look: what most of a long log goes through."""
        takers = self._TAKERS
        stamp, ordinal = self._stamp, self.next_ordinal
        for line in lines:
            if line.ordinal is not None:
                ordinal = line.ordinal + 1
            elif ordinal is not None:
                ordinal += 1
            if line.echo:
                continue
            payload = line.payload
            try:
                if line.timestamp != stamp:
                    stamp = self._date(line.timestamp)
                if type(line) is EventLine:
                    self._reasoning = None
                    takers[type(payload)](self, payload)
                else:
                    takers[type(line)](self, line)
            except _FAULTS:
                self.skipped += 1
        self.next_ordinal = ordinal

    def _date(self, stamp: str | None) -> str | None:
        """What comes from here on happened at `stamp`, if that tells a time at all."""
        if stamp and stamp != self._stamp:
            self._at, self._stamp = parse_iso(stamp), stamp
        return self._stamp

    def _single(self, raw: bytes) -> None:
        """A line by itself, so that a broken one takes no other along."""
        try:
            line = decode_line(raw)
            if line.type is None or (line.payload is NOTHING and line.type in _MODEL_ITEMS):
                self._bare(cast("Json", _objects.decode(raw)))
                return
        except _FAULTS:
            self.skipped += 1
            return
        self._line(line)

    def _line(self, line: Line) -> None:
        if line.ordinal is not None:
            self.next_ordinal = line.ordinal + 1
        elif self.next_ordinal is not None:
            self.next_ordinal += 1
        if line.echo:
            return
        try:
            self._date(line.timestamp)
            self._LINE_READERS.get(line.type or "", LineReader._other)(self, line)
        except _FAULTS:
            self.skipped += 1

    def _add(self, record: ThreadRecord) -> None:
        record.at = self._at
        self.records.append(record)

    def _other(self, line: Line) -> None:
        payload = None if line.payload is NOTHING else _objects.decode(line.payload)
        self._add(Foreign(type=line.type or "", payload=payload))

    def _bare(self, entry: Json) -> None:
        """Files from before lines had an envelope: a head, then items of the model."""
        kind = entry.get("type")
        if kind is None and "id" in entry and not self.records:
            self._head({**entry, "timestamp": entry.get("timestamp")})
        elif kind in _MODEL_ITEMS:
            self._add(ModelItem(item=entry))
            self._bare_message(entry)
        else:
            self.skipped += 1

    def _bare_message(self, entry: Json) -> None:
        role = entry.get("role")
        parts = cast("list[Json]", entry.get("content") or [])
        text = "".join(str(part.get("text", "")) for part in parts)
        if role == "user" and text and not text.startswith("<"):
            self._user_said(UserSaid(message=text))
        elif role == "assistant" and text:
            self._agent_said(AgentSaid(message=text))

    def _head(self, payload: Json) -> None:
        created = created_from_file(payload, self._at)
        if self._thread_id:
            # A later head (fork, revert, rewritten metadata) belongs to the same log.
            if created.thread_id != self._thread_id:
                self._add(Foreign(type="session_meta", payload=payload))
            return
        self._thread_id = created.thread_id
        self.built_on_another = payload.get("history_base") is not None
        self._provider = created.model_provider
        at, self._at = self._at, created.at or self._at
        self._add(created)
        self._at = at or created.at

    def _response(self, line: Line | ItemLine) -> None:
        """An item of the model: kept as it lies there, unless it must be looked into."""
        data = bytes(line.payload)
        # A search for one byte is by far the fastest: most items have no escape of any kind.
        plain = data.isascii() and data[:1] == b"{" and not (b"\\" in data and b"\\u" in data)
        if plain and _PASSED not in data:
            item = msgspec.Raw(data)
            self.records.append(ModelItem(at=self._at, item=item, turn_id=line.turn_id))
            return
        payload: object = _objects.decode(data)
        if not isinstance(payload, dict):
            self._add(Foreign(type="response_item", payload=payload))
            return
        turn_id, entry = line.turn_id, cast("Json", payload)
        passed = entry.pop(_PASSED.decode(), None)
        if turn_id is None and isinstance(passed, dict):
            turn_id = cast("Json", passed).get("turn_id")
        self._add(ModelItem(item=entry, turn_id=turn_id))

    def _context(self, payload: Json) -> None:
        settings = settings_from_file(payload, self._provider)
        turn_id = str(payload.get("turn_id") or self._turn_id or "")
        self._add(TurnContext(turn_id=turn_id, settings=settings))

    def _compacted(self, payload: Json) -> None:
        items = cast("list[Json] | None", payload.get("replacement_history"))
        message = str(payload.get("message") or "")
        if items is None:
            # The oldest compactions kept the words alone.
            content = [{"type": "input_text", "text": message}]
            items = [{"type": "message", "role": "user", "content": content}]
        for item in items:
            item.pop(_PASSED.decode(), None)
        self._add(ContextReplaced(message=message, items=items))

    def _event(self, line: Line) -> None:
        try:
            event = decode_event(line.payload)
        except msgspec.ValidationError:
            self._rare_payload(line)
            return
        self._reasoning = None
        self._TAKERS[type(event)](self, event)

    def _rare_event(self, payload: Json) -> None:
        kind = str(payload.get("type", ""))
        if kind != "agent_reasoning":
            self._reasoning = None
        read = self._EVENT_READERS.get(kind)
        if read is not None:
            read(self, payload)
        elif not self._display(payload):
            self._add(Foreign(type="event_msg", payload=payload))

    def _started(self, payload: Json) -> None:
        started = payload.get("started_at")
        self._begin(
            str(payload.get("turn_id") or "") or None,
            None if started is None else int(started),
            payload.get("model_context_window"),
        )

    def _task_started(self, event: TaskStarted) -> None:
        self._begin(event.turn_id or None, event.started_at, event.model_context_window)

    def _begin(
        self, turn_id: str | None, started_at: int | None = None, window: int | None = None
    ) -> None:
        self._end_implied()
        self._turn_id = turn_id = turn_id or self._new_turn_id()
        self._error = None
        at, records = self._at, self.records
        self._starts.append(len(records))
        if started_at is None:
            started_at = int(at)
        records.append(
            TurnStarted(at=at, turn_id=turn_id, started_at=started_at, model_context_window=window)
        )

    def _ended(self, payload: Json) -> None:
        turn_id = str(payload.get("turn_id") or self._turn_id or self._new_turn_id())
        aborted = payload.get("type") == "turn_aborted"
        error = _error_of(payload) or (None if aborted else self._error)
        status = "interrupted" if aborted else "failed" if error else "completed"
        self._turn_id, self._implied, self._error = None, False, None
        self._add(
            TurnEnded(
                turn_id=turn_id,
                status=status,
                error=error,
                reason=payload.get("reason"),
                last_agent_message=payload.get("last_agent_message"),
                started_at=payload.get("started_at"),
                completed_at=payload.get("completed_at") or int(self._at),
                duration_ms=payload.get("duration_ms"),
            )
        )

    def _task_complete(self, event: TaskComplete) -> None:
        error = self._error
        turn_id = event.turn_id or self._turn_id or self._new_turn_id()
        self._turn_id, self._implied, self._error = None, False, None
        self._add(
            TurnEnded(
                turn_id=turn_id,
                status="failed" if error else "completed",
                error=error,
                last_agent_message=event.last_agent_message,
                started_at=event.started_at,
                completed_at=event.completed_at or int(self._at),
                duration_ms=event.duration_ms,
            )
        )

    def _failed(self, payload: Json) -> None:
        kind = respell_error(payload.get("codex_error_info"), camel)
        self._error = TurnError(message=str(payload.get("message") or ""), codex_error_info=kind)

    def _item(self, payload: Json) -> None:
        self._add(
            ItemDone(
                turn_id=str(payload.get("turn_id") or self._turn_id or ""),
                item=item_from_file(payload["item"]),
                started_at_ms=payload.get("started_at_ms"),
                completed_at_ms=payload.get("completed_at_ms"),
            )
        )

    def _applied(self, payload: Json) -> None:
        entry = cast("Json", payload.get("thread_settings") or {})
        self._add(SettingsApplied(settings=settings_from_file(entry, self._provider)))

    def _usage(self, payload: Json) -> None:
        info = cast("Json | None", payload.get("info"))
        usage = None
        if info is not None:
            usage = ThreadTokenUsage(
                total=_tokens(info.get("total_token_usage")),
                last=_tokens(info.get("last_token_usage")),
                model_context_window=info.get("model_context_window"),
            )
        limits = cast("Json | None", payload.get("rate_limits"))
        turn_id = payload.get("turn_id") or self._turn_id
        self._add(UsageRecorded(turn_id=turn_id, usage=usage, rate_limits=limits))

    def _tokens_told(self, event: TokenCount) -> None:
        turn_id = event.turn_id or self._turn_id
        usage, limits = usage_of(event), event.rate_limits
        self._add(UsageRecorded(turn_id=turn_id, usage=usage, rate_limits=limits))

    def _rolled_back(self, payload: Json) -> None:
        """The last turns were taken back: they count neither as turns nor as context."""
        self._end_implied()
        for _ in range(int(payload.get("num_turns") or 0)):
            if self._starts:
                del self.records[self._starts.pop() :]
        self._turn_id = None

    def _display(self, payload: Json) -> bool:
        item = event_to_item(payload, f"item-{self._fresh + 1}")
        if item is None:
            return False
        if isinstance(item, UserMessage | AgentMessage) or not payload.get("call_id"):
            self._fresh += 1
        if not isinstance(item, Reasoning):
            self._show(item, asked=isinstance(item, UserMessage))
        elif not self._grow_reasoning(item):
            self._show(item)
            self._reasoning = len(self.records) - 1
        return True

    def _user_said(self, event: UserSaid) -> None:
        self._fresh = fresh = self._fresh + 1
        content: list[Any] = [TextInput(text=event.message)] if event.message else []
        self._show(UserMessage(id=f"item-{fresh}", content=content), asked=True)

    def _agent_said(self, event: AgentSaid) -> None:
        self._fresh = fresh = self._fresh + 1
        self._show(AgentMessage(id=f"item-{fresh}", text=event.message, phase=event.phase))

    def _show(self, item: StoredItem, *, asked: bool = False) -> None:
        """An item in the turn it belongs to: what a user asks outside of a turn begins one."""
        if self._turn_id is None or (asked and self._implied):
            self._begin(None)
            self._implied = True
        turn_id: Any = self._turn_id
        self.records.append(ItemDone(at=self._at, turn_id=turn_id, item=item))

    def _message(self, event: ItemCompleted) -> None:
        self._add(
            ItemDone(
                turn_id=event.turn_id or self._turn_id or "",
                item=shown(event.item),
                started_at_ms=event.started_at_ms,
                completed_at_ms=event.completed_at_ms,
            )
        )

    def _grow_reasoning(self, item: Reasoning) -> bool:
        """Parts of one reasoning come as events of their own; they make one item."""
        if self._reasoning is None:
            return False
        record = self.records[self._reasoning]
        if isinstance(record, ItemDone) and isinstance(record.item, Reasoning):
            self._fresh -= 1
            record.item.summary.extend(item.summary)
            return True
        return False

    def _end_implied(self) -> None:
        turn_id = self._turn_id
        if self._implied and turn_id is not None:
            ended = TurnEnded(at=self._at, turn_id=turn_id, status="completed", error=self._error)
            self.records.append(ended)
        self._turn_id, self._implied = None, False

    def _new_turn_id(self) -> str:
        # The same file must give the same ids each time: clients page by them.
        if not self._id_stem:
            import hashlib

            digits = hashlib.sha1(self._thread_id.encode(), usedforsecurity=False).hexdigest()
            self._id_stem = f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-"
        self._invented += 1
        return f"{self._id_stem}{self._invented:012x}"

    # ------------------------------------------------------------------ who reads what
    # Of the class, not of each reader: lists make one for every file they meet.

    @staticmethod
    def _of_object(
        kind: str, read: Callable[["LineReader", Json], None]
    ) -> Callable[["LineReader", Line], None]:
        # A reader of lines for one of their payloads; what is no object is kept as it is.
        def whole(self: "LineReader", line: Line) -> None:
            payload: object = _objects.decode(line.payload)
            if isinstance(payload, dict):
                read(self, cast("Json", payload))
            else:
                self._add(Foreign(type=kind, payload=payload))

        return whole

    _rare_payload = _of_object("event_msg", _rare_event)
    _LINE_READERS: ClassVar[dict[str, Callable[["LineReader", Any], None]]] = {
        "response_item": _response,
        "event_msg": _event,
        "session_meta": _of_object("session_meta", _head),
        "turn_context": _of_object("turn_context", _context),
        "compacted": _of_object("compacted", _compacted),
    }
    _TAKERS: ClassVar[dict[type[Any], Callable[["LineReader", Any], None]]] = {
        UserSaid: _user_said,
        AgentSaid: _agent_said,
        ItemCompleted: _message,
        TaskStarted: _task_started,
        TaskComplete: _task_complete,
        TokenCount: _tokens_told,
        ItemLine: _response,
        ContextLine: _LINE_READERS["turn_context"],
    }
    _EVENT_READERS: ClassVar[dict[str, Callable[["LineReader", Json], None]]] = {
        "task_started": _started,
        "turn_started": _started,
        "task_complete": _ended,
        "turn_complete": _ended,
        "turn_aborted": _ended,
        "error": _failed,
        "item_completed": _item,
        "thread_settings_applied": _applied,
        "token_count": _usage,
        "thread_rolled_back": _rolled_back,
    }


def _error_of(payload: Json) -> TurnError | None:
    entry = payload.get("error")
    if not isinstance(entry, dict):
        return None
    error = cast("Json", entry)
    return TurnError(
        message=str(error.get("message") or ""),
        codex_error_info=respell_error(error.get("codex_error_info"), camel),
        additional_details=error.get("additional_details"),
    )


def _tokens(entry: Any) -> TokenUsage:
    counts = cast("Json", entry or {})
    return TokenUsage(**{name: counts.get(name, 0) for name in TokenUsage.__struct_fields__})
