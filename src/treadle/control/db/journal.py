"""One run inside a transaction: its head, its fold, and the events being added.

The only writer of events, folds and command states. Everything that changes a run goes through
`note` or `extend`; `save` then writes events, head, fold and commands together, so that status and
result can never disagree with the log.
"""

from typing import Any

import msgspec

from treadle.control.db.batch import FOLDED_TYPES, EventRow, plain_texts
from treadle.control.db.repository import WORK_WAITING
from treadle.control.db.transaction import Row, Transaction
from treadle.control.faults import InvalidRequest, NotFound
from treadle.control.fold import (
    CommandChange,
    LogEvent,
    RunFold,
    fold_event,
    moves_fold,
    run_status,
)
from treadle.control.records import CommandState, NewEvent, RunSpec
from treadle.control.rules import COMMAND_PHASES, LeaseFacts, check_status_event

EXPIRED = "No runner took this turn up before its time was over; give it again."
_decode_payload = msgspec.json.Decoder(dict[str, Any]).decode
decode_spec = msgspec.json.Decoder(RunSpec).decode
decode_fold = msgspec.json.Decoder(RunFold).decode


class Head(msgspec.Struct):
    """The hot row of a run; the defaults are those of a new one."""

    run_id: str
    epoch: int = 0
    runner_id: str | None = None
    attempt_id: str | None = None
    token_sha256: bytes | None = None
    attempt: int = 0
    lease_ms: int = 0
    lease_until_ms: int = 0
    last_seq: int = 0
    producer_seq: int = 0
    cmd_last: int = 0
    open_commands: int = 0
    cancel: int = 0
    last_end: str | None = None
    ended: int = 0
    last_holder: str | None = None

    @property
    def facts(self) -> LeaseFacts:
        """What the rules look at."""
        return LeaseFacts(
            epoch=self.epoch,
            runner_id=self.runner_id,
            attempt_id=self.attempt_id,
            lease_until_ms=self.lease_until_ms,
            producer_seq=self.producer_seq,
            last_end=self.last_end,
            ended=bool(self.ended),
        )


class RunJournal:
    """A run being changed; nothing is written before `save`, except rows of new commands."""

    def __init__(self, tx: Transaction, run_id: str, head: Head | None = None) -> None:
        """Read the run's head, unless it is given.

        Raises:
            NotFound: there is no such run.
        """
        if head is None:
            row = tx.one("read_head", run_id=run_id)
            if row is None:
                raise run_not_found()
            head = msgspec.convert(row, Head)
        self.run_id = run_id
        self.head = head
        self._tx = tx
        self._spec: RunSpec | None = None
        self._fold: RunFold | None = None
        self._row: Row | None = None
        self._fold_moved = False
        self._fold_written = False
        self._rows: list[EventRow] = []
        self._changes: list[CommandChange] = []

    @classmethod
    def begin(cls, tx: Transaction, run_id: str, spec: RunSpec) -> "RunJournal":
        """A run that was not there before."""
        journal = cls(tx, run_id, Head(run_id))
        journal._spec, journal._fold = spec, RunFold(session=spec.session_ref)
        journal._row = {
            "spec": msgspec.json.encode(spec).decode(),
            "fold": msgspec.json.encode(journal._fold).decode(),
            "created_at_ms": tx.now_ms,
            "updated_at_ms": tx.now_ms,
        }
        tx.run(
            "insert_run",
            run_id=run_id,
            tenant_id=spec.tenant_id,
            project_id=spec.project_id,
            spec=journal._row["spec"],
            fold=journal._row["fold"],
            status=run_status(journal._fold),
            now=tx.now_ms,
        )
        tx.run(
            "insert_head",
            run_id=run_id,
            backend_profile=spec.backend_profile,
            placement=spec.placement,
        )
        return journal

    @property
    def fold(self) -> RunFold:
        """The run's fold, read when first asked for: most appends do not need it."""
        if self._fold is None:
            self._load()
        assert self._fold is not None
        return self._fold

    @property
    def spec(self) -> RunSpec:
        """What the run was asked to be."""
        if self._spec is None:
            self._load()
        assert self._spec is not None
        return self._spec

    @property
    def now_ms(self) -> int:
        """The time of the transaction."""
        return self._tx.now_ms

    def columns(self) -> Row:
        """What `save` leaves in the run's rows beside spec and fold."""
        status = run_status(self.fold)
        assert self._row is not None
        updated_at_ms = self._tx.now_ms if self._fold_written else self._row["updated_at_ms"]
        return {
            "status": status,
            "created_at_ms": self._row["created_at_ms"],
            "updated_at_ms": updated_at_ms,
            **msgspec.structs.asdict(self.head),
        }

    def note(self, phase: str, command_id: str | None = None, **payload: Any) -> None:
        """Add an event of the manager itself."""
        body = {"phase": phase, **payload}
        event = LogEvent(self.head.last_seq + 1, "backend_status", body, command_id)
        text = msgspec.json.encode(body).decode()
        self._add(event, text, at=None, producer_seq=None)

    def extend(self, events: list[NewEvent], first_index: int) -> None:
        """Add a runner's events under the current epoch; the caller has checked the fence.

        `first_index` is the place of the first one in the request, for the paths of errors.

        Raises:
            InvalidRequest: a payload is no object, or a phase has no meaning here.
        """
        texts = plain_texts(events)
        if texts is not None:
            self._extend_plainly(events, texts)
            return
        for index, event in enumerate(events, first_index):
            path = f"$.events[{index}]"
            if self.head.ended:
                raise InvalidRequest("run-terminal must be the last event of its batch.", path)
            payload, text = _payload_of(event, path)
            log_event = LogEvent(
                self.head.last_seq + 1, event.type, payload, event.command_id, self.head.epoch
            )
            if event.type == "backend_status":
                check_status_event(payload, event.command_id, self._knows_command, path)
                self._expire_late(log_event)
                log_event.seq = self.head.last_seq + 1
            self.head.producer_seq += 1
            self._add(log_event, text, event.at, self.head.producer_seq)

    def expire(self, command_id: str) -> None:
        """Close a command that nobody took up in time."""
        body = {"commandId": command_id, "state": CommandState.EXPIRED, "failureMessage": EXPIRED}
        self.note("command-terminal", command_id, **body)

    def end_lease(self, reason: str) -> None:
        """Leave the run without a holder."""
        self._tx.run(
            "end_attempt",
            run_id=self.run_id,
            epoch=self.head.epoch,
            reason=reason,
            now=self._tx.now_ms,
        )
        self.head.runner_id = None
        self.head.attempt_id = None
        self.head.last_end = reason

    def renew(self) -> None:
        """Give the lease its whole length again; of this nobody has to be told."""
        self.head.lease_until_ms = self._tx.now_ms + self.head.lease_ms
        self._tx.run("write_head", **msgspec.structs.asdict(self.head))

    def save(self) -> None:
        """Write all that was added."""
        if self._fold is not None:
            self.head.open_commands = len(self._fold.open)
            self.head.cancel = int(self._fold.wants_cancel())
        self._tx.run("write_head", **msgspec.structs.asdict(self.head))
        self._tx.insert_events(self._rows)
        if self._fold_moved:
            self._fold_written = True
            self._tx.run(
                "write_fold",
                run_id=self.run_id,
                fold=msgspec.json.encode(self.fold).decode(),
                status=run_status(self.fold),
                now=self._tx.now_ms,
                ended_at_ms=self._tx.now_ms if self.head.ended else None,
            )
        for change in self._changes:
            columns = self._columns_of(change)
            self._tx.run(
                "change_command", run_id=self.run_id, command_id=change.command_id, **columns
            )
        self._rows, self._changes, self._fold_moved = [], [], False
        self._tx.touched.add(self.run_id)
        if self.head.runner_id is None and self.head.open_commands and not self.head.ended:
            self._tx.touched.add(WORK_WAITING)

    def _load(self) -> None:
        row = self._tx.one("read_fold", run_id=self.run_id)
        assert row is not None
        self._row = row
        self._spec = decode_spec(row["spec"])
        self._fold = decode_fold(row["fold"])

    def _extend_plainly(self, events: list[NewEvent], texts: list[str]) -> None:
        """Add events that cannot change state; this is most of all work, so it is kept short."""
        head, run_id, now = self.head, self.run_id, self._tx.now_text
        epoch, seq, producer_seq = head.epoch, head.last_seq, head.producer_seq
        self._rows += [
            (run_id, seq + n, epoch, producer_seq + n, e.type, e.command_id, e.at or now, text)
            for n, (e, text) in enumerate(zip(events, texts, strict=True), 1)
        ]
        head.last_seq += len(events)
        head.producer_seq += len(events)

    def _add(self, event: LogEvent, text: str, at: str | None, producer_seq: int | None) -> None:
        self.head.last_seq = event.seq
        at = at or self._tx.now_text
        row = (self.run_id, event.seq, event.epoch, producer_seq, event.type, event.command_id)
        self._rows.append((*row, at, text))
        if not moves_fold(event.type, event.payload):
            return
        self._changes += fold_event(self.run_id, self.fold, event)
        self._fold_moved = True
        if self.fold.terminal_status is not None and not self.head.ended:
            self.end_lease("ended")
            self.head.ended = 1

    def _expire_late(self, event: LogEvent) -> None:
        """An acknowledgement that comes after a command's time finds it expired."""
        if event.payload.get("phase") not in COMMAND_PHASES:
            return
        command_id = event.command_id or str(event.payload.get("commandId"))
        if self.fold.is_due(command_id, self._tx.now_ms):
            self.expire(command_id)

    def changes_of(self, command_id: str) -> Row:
        """Columns of a command's row as `save` will write them; empty when nothing changed it."""
        changed: Row = {}
        for change in self._changes:
            if change.command_id == command_id:
                changed = self._columns_of(change)
        return changed

    def _columns_of(self, change: CommandChange) -> Row:
        result = change.result
        return {
            "state": change.state,
            "delivered_epoch": change.delivered_epoch,
            "failure_kind": change.failure_kind,
            "failure_message": change.failure_message,
            "result": msgspec.json.encode(result).decode() if result else None,
            "closed_at_ms": self._tx.now_ms if result else None,
        }

    def _knows_command(self, command_id: str) -> bool:
        if command_id in self.fold.open:
            return True
        row = self._tx.one("read_command", run_id=self.run_id, command_id=command_id)
        return row is not None


def run_not_found() -> NotFound:
    """The fault for a run that does not exist."""
    return NotFound("run", "No such run; check the id, or list the runs.")


def _payload_of(event: NewEvent, path: str) -> tuple[dict[str, Any], str]:
    """The payload as text to store and, where the fold may look at it, decoded."""
    raw = bytes(event.payload)
    if raw[:1] != b"{":
        raise InvalidRequest("An event's payload must be an object.", f"{path}.payload")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("The payload is not UTF-8.", f"{path}.payload") from error
    if event.type not in FOLDED_TYPES:
        return {}, text
    try:
        return _decode_payload(raw), text
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"The payload is not JSON: {error}", f"{path}.payload") from error
