"""What was asked of the managers and what they answered, as plain records for the checker.

A recorder only appends. Times are seconds of one monotonic clock; an answer that never came has no
record, which is how a history says "nobody knows". Content is kept as a digest, so that a million
events fit in memory.
"""

import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

NO_FACTS: Mapping[str, Any] = MappingProxyType({})


def digest_of(kind: str, payload: bytes) -> int:
    """A digest of an event's content: type and payload, the latter as it was encoded."""
    return zlib.crc32(payload, zlib.crc32(kind.encode()))


@dataclass(frozen=True, slots=True)
class Tried:
    """An append that a writer sent: `digests` from producer seq `first` on."""

    at: float
    run: str
    epoch: int
    first: int
    digests: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Acked:
    """An append that was acknowledged; `asked_at` is when it was sent."""

    asked_at: float
    at: float
    run: str
    epoch: int
    through: int
    last_seq: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """A claim that was answered."""

    asked_at: float
    at: float
    run: str
    epoch: int
    runner: str


@dataclass(frozen=True, slots=True)
class Reported:
    """That who holds an epoch was reported gone, or is about to be.

    `lapsed_at` is when an answer said that its lease lapsed by this; None: no such answer came.
    """

    run: str
    epoch: int
    lapsed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Keyed:
    """A write with an idempotency key that was answered with the id of what it made."""

    scope: str
    key: str
    made: str


@dataclass(frozen=True, slots=True)
class Forged:
    """A write under a token or epoch that gives no right to it."""

    run: str
    what: str
    accepted: bool


def is_within(owner: str, caller: str) -> bool:
    """Whether what is `owner`'s is `caller`'s to see; both read TENANT or TENANT/PROJECT."""
    return owner == caller or owner.startswith(f"{caller}/")


@dataclass(frozen=True, slots=True)
class Shown:
    """A row that a caller of one tenant or project was shown."""

    caller: str
    owner: str
    place: str


@dataclass(frozen=True, slots=True)
class Leak:
    """A canary that was found where no secret may be."""

    place: str
    form: str


@dataclass(frozen=True, slots=True)
class Logged:
    """One event of the log as it was in the end."""

    seq: int
    kind: str
    digest: int
    epoch: int | None = None
    producer_seq: int | None = None
    command: str | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: NO_FACTS)
    """The payload of a `backend_status`; of others only where they come from when told again."""

    @property
    def phase(self) -> str | None:
        """The phase of a status event."""
        return self.facts.get("phase") if self.kind == "backend_status" else None

    @property
    def origin(self) -> tuple[int, int] | None:
        """Epoch and producer seq of the runner that first had this event; None: a manager's."""
        told_again = self.facts.get("recoveredFrom")
        if told_again is not None:
            return told_again["epoch"], told_again["producerSeq"]
        if self.epoch is None or self.producer_seq is None:
            return None
        return self.epoch, self.producer_seq


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A command as it was in the end."""

    id: str
    cmd_seq: int
    kind: str
    state: str
    key: str | None = None


@dataclass(slots=True)
class FinalRun:
    """A run as it was in the end; `findings` are those of the manager's own verification."""

    run: str
    status: str
    terminal_status: str | None
    last_seq: int
    log: list[Logged]
    commands: list[CommandRow] = field(default_factory=list[CommandRow])
    findings: list[str] = field(default_factory=list[str])
    reply: str | None = None
    must_end: bool = True
    """Whether the run had all it needs to end: open work and free runners."""


@dataclass(slots=True)
class Copy:
    """What one subscriber saw of one run, over all its connections."""

    subscriber: str
    run: str
    after: int = 0
    seqs: "array[int]" = field(default_factory=lambda: array("q"))
    digests: "array[int]" = field(default_factory=lambda: array("L"))
    saw_end: bool = False

    def see(self, seq: int, digest: int) -> None:
        """Add a frame, as it came."""
        self.seqs.append(seq)
        self.digests.append(digest)


@dataclass(slots=True)
class History:
    """All that was recorded."""

    tried: list[Tried] = field(default_factory=list[Tried])
    acked: list[Acked] = field(default_factory=list[Acked])
    granted: list[Granted] = field(default_factory=list[Granted])
    reported: list[Reported] = field(default_factory=list[Reported])
    keyed: list[Keyed] = field(default_factory=list[Keyed])
    forged: list[Forged] = field(default_factory=list[Forged])
    shown: list[Shown] = field(default_factory=list[Shown])
    leaks: list[Leak] = field(default_factory=list[Leak])
    copies: list[Copy] = field(default_factory=list[Copy])
    final: dict[str, FinalRun] = field(default_factory=dict[str, FinalRun])
