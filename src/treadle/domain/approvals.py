"""Approvals as a thread's log has them: what was asked, about which effect, and how it ended.

Each step is one line of the log, so that a question outlives the process that asked it. A question
is bound to the digest of exactly what a yes lets happen. Folds only: asks nobody.
"""

from collections.abc import Iterable
from typing import Any, Literal, cast

import msgspec

from treadle.domain.items import FrozenShape, item_id
from treadle.domain.policy import Settings
from treadle.domain.questions import (
    CommandQuestion,
    ElicitationQuestion,
    FileQuestion,
    FormQuestion,
    PermissionQuestion,
    Question,
)
from treadle.domain.records import (
    Foreign,
    ItemDone,
    ModelItem,
    ThreadRecord,
    TurnContext,
    TurnEnded,
    TurnStarted,
)

APPROVAL_LINE = "treadle_approval"
"""Type of the log's lines about approvals; other programs pass over it."""

TOOL_APPROVAL = "mcp_tool_call"
"""What the metadata of an elicitation say when it approves a call of an MCP tool (0.169.0)."""

MAX_SETTLED = 1000
"""Settled approvals that a thread remembers, to answer a repeated answer."""

Default = Literal["accept", "decline", "cancel"]
Settler = Literal["client", "deadline", "policy", "turn"]
"""Who settled a question: an answer, the clock, a rule without anybody, or the end of its turn."""

_KINDS: dict[str, type[Question]] = {
    "command": CommandQuestion,
    "file": FileQuestion,
    "permission": PermissionQuestion,
    "form": FormQuestion,
    "elicitation": ElicitationQuestion,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class Asked(FrozenShape, frozen=True, kw_only=True):
    """One question as it was put."""

    request_id: int
    question: Question
    deadline_at: float | None = None
    """Unix seconds from which on the default counts; None for never."""
    default: Default = "decline"


class Settled(FrozenShape, frozen=True, kw_only=True):
    """How a question ended."""

    request_id: int
    by: Settler
    reason: str
    answer: Any = None
    """The answer in plain values; None where none was usable."""


class WaitingTurn(msgspec.Struct, frozen=True):
    """A turn that a log leaves open and that waits for nothing but answers."""

    turn_id: str
    started_at: int
    calls: tuple[dict[str, Any], ...]
    """The model's calls that have no output yet, in order."""
    settings: Settings | None
    """What the turn runs under."""
    item_ids: frozenset[str]
    """Ids that items of the turn have already."""
    output_schema: Any = None
    """JSON schema that its final message must follow."""


def digest(*parts: Any) -> str:
    """The SHA-256 of plain values, the same for the same values in every process."""
    import hashlib

    raw = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(raw).hexdigest()


def bound(question: Question) -> Question:
    """The question with the digest of its effect, where its asker gave none."""
    if question.effect:
        return question
    plain = msgspec.structs.replace(question, asked_at_ms=0)
    effect = digest(type(question).__name__, msgspec.to_builtins(plain))
    return msgspec.structs.replace(question, effect=effect)


def outlives(question: Question) -> bool:
    """Whether a question can be answered after a restart.

    A call that nobody began yet can: approvals and forms. What belongs to a server or a client in
    the middle of something cannot.
    """
    if isinstance(question, ElicitationQuestion):
        given: Any = question.meta
        meta = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        return bool(question.turn_id) and meta.get("codex_approval_kind") == TOOL_APPROVAL
    return type(question) in _NAMES


def asked_record(asked: Asked, at: float) -> Foreign:
    """The line that says that a question was put."""
    payload = {
        "requestId": asked.request_id,
        "kind": _NAMES[type(asked.question)],
        "question": msgspec.to_builtins(asked.question),
        "deadlineAt": asked.deadline_at,
        "default": asked.default,
    }
    return Foreign(at=at, type=APPROVAL_LINE, payload={"asked": payload})


def settled_record(settled: Settled, at: float) -> Foreign:
    """The line that says how a question ended."""
    return Foreign(at=at, type=APPROVAL_LINE, payload={"settled": msgspec.to_builtins(settled)})


class ApprovalFold:
    """The approvals of a growing log: add records in order, look at them at any time."""

    def __init__(self) -> None:
        self.pending: dict[int, Asked] = {}
        """Open questions by number, oldest first."""
        self.settled: dict[int, tuple[Asked, Settled]] = {}
        """The last ones that ended."""

    def add(self, record: ThreadRecord) -> None:
        """Take the next record; those that say nothing about approvals are passed over."""
        if isinstance(record, TurnEnded):
            for asked in [a for a in self.pending.values() if a.question.turn_id == record.turn_id]:
                self._settle(
                    Settled(request_id=asked.request_id, by="turn", reason="its turn has ended")
                )
        elif isinstance(record, Foreign) and record.type == APPROVAL_LINE:
            self._line(cast("dict[str, Any]", record.payload or {}))

    def _line(self, payload: dict[str, Any]) -> None:
        if (entry := payload.get("asked")) is not None:
            kind = _KINDS.get(entry.get("kind"))
            if kind is None:
                return  # of a later version: it cannot be answered here
            asked = Asked(
                request_id=entry["requestId"],
                question=msgspec.convert(entry["question"], kind),
                deadline_at=entry.get("deadlineAt"),
                default=entry.get("default") or "decline",
            )
            self.pending[asked.request_id] = asked
        elif (entry := payload.get("settled")) is not None:
            self._settle(msgspec.convert(entry, Settled))

    def _settle(self, settled: Settled) -> None:
        asked = self.pending.pop(settled.request_id, None)
        if asked is None:
            return
        self.settled[settled.request_id] = (asked, settled)
        while len(self.settled) > MAX_SETTLED:
            del self.settled[next(iter(self.settled))]


def approvals_of(records: Iterable[ThreadRecord]) -> ApprovalFold:
    """The approvals that a log adds up to."""
    fold = ApprovalFold()
    for record in records:
        fold.add(record)
    return fold


def waiting_turn(records: list[ThreadRecord]) -> WaitingTurn | None:
    """The turn that a log leaves waiting for answers alone; None when there is none.

    Every call without an output must be one that was asked about and not answered: of any other
    nobody can know whether it was carried out.
    """
    if not any(isinstance(r, Foreign) and r.type == APPROVAL_LINE for r in records):
        return None
    began = max((at for at, r in enumerate(records) if isinstance(r, TurnStarted)), default=None)
    if began is None:
        return None
    started = cast("TurnStarted", records[began])
    rest = records[began + 1 :]
    if any(isinstance(record, TurnEnded) for record in rest):
        return None
    calls = _open_calls(rest)
    pending = approvals_of(records).pending.values()
    asked = {a.question.item_id for a in pending if a.question.turn_id == started.turn_id}
    if not calls or calls.keys() != asked:
        return None
    contexts = [record.settings for record in rest if isinstance(record, TurnContext)]
    return WaitingTurn(
        turn_id=started.turn_id,
        started_at=started.started_at,
        calls=tuple(calls.values()),
        settings=contexts[-1] if contexts else None,
        item_ids=frozenset(item_id(r.item) for r in rest if isinstance(r, ItemDone)),
        output_schema=next((_schema(r) for r in rest if _schema(r) is not None), None),
    )


def schema_record(schema: Any, at: float) -> Foreign:
    """The line that keeps the schema of a turn's final message, for a turn that waits."""
    return Foreign(at=at, type=APPROVAL_LINE, payload={"outputSchema": schema})


def _schema(record: ThreadRecord) -> Any:
    if isinstance(record, Foreign) and record.type == APPROVAL_LINE:
        return cast("dict[str, Any]", record.payload or {}).get("outputSchema")
    return None


def _open_calls(records: list[ThreadRecord]) -> dict[str, dict[str, Any]]:
    calls: dict[str, dict[str, Any]] = {}
    for record in records:
        if not isinstance(record, ModelItem):
            continue
        item = record.content
        kind = str(item.get("type", ""))
        call_id = str(item.get("call_id") or item.get("id") or "")
        if kind.endswith("_call_output"):
            calls.pop(call_id, None)
        elif kind in ("function_call", "custom_tool_call", "local_shell_call"):
            calls[call_id] = item
    return calls
