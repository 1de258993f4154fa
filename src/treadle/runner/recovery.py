"""What an earlier attempt of a run wrote down and could not tell any more is told now.

Reads the spools that earlier epochs left in the folder, asks the manager's log what of it is known,
and replays the rest under the new claim, marked `recovered` and with its origin. Knows of events
only that some close commands or the run, because what is closed must not be done again.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from treadle.kit.fault_points import reach
from treadle.runner.manager_client import ManagerClient
from treadle.runner.manager_types import Claim, NewEvent
from treadle.runner.report import Reporter
from treadle.runner.spool import Leftover, drop_leftover, find_leftovers

PAGE = 1000
ORIGIN = "recoveredFrom"
"""Member of a replayed event: epoch and producer seq of the attempt that first had it."""

Origin = tuple[int, int]
_Entry = tuple[int, Origin, NewEvent, dict[str, Any]]
"""Producer seq in its spool, origin, event, decoded payload."""


@dataclass(slots=True)
class Recovered:
    """What the replayed events say about the run."""

    closed: set[str] = field(default_factory=set[str])
    run_ended: str | None = None
    thread_id: str | None = None


async def recover(
    client: ManagerClient, claim: Claim, reporter: Reporter, folder: Path
) -> Recovered:
    """Replay what earlier attempts left in `folder`; it is in the manager's log when this returns.

    An attempt may die while it does this, so that the same event waits in two spools: each one
    carries where it comes from, and what is in the log already is not told again.

    Raises:
        Lost: the run was lost meanwhile.
        ManagerError, ManagerUnreachable: the run's log cannot be read.
    """
    recovered = Recovered()
    leftovers = await asyncio.to_thread(find_leftovers, folder, claim.run_id, claim.epoch)
    told: _Told | None = None
    for leftover in leftovers:
        if leftover.events and recovered.run_ended is None:
            told = told or await _read_log(client, claim.run_id)
            rest = _untold(leftover, told)
            if rest:
                _replay(reporter, leftover, rest, recovered)
                await reporter.flush()
                reach("runner.recovery.replayed")
        drop_leftover(folder, claim.run_id, leftover.epoch)
    return recovered


@dataclass(slots=True)
class _Told:
    """What of earlier attempts' events the manager's log has."""

    through: dict[int, int] = field(default_factory=dict[int, int])
    """Last producer seq that an epoch itself told."""
    again: set[Origin] = field(default_factory=set[Origin])
    """What later epochs told for it."""
    closed: set[str] = field(default_factory=set[str])
    """Commands that have ended, perhaps while nobody held the run."""

    def has(self, origin: Origin) -> bool:
        epoch, producer_seq = origin
        return producer_seq <= self.through.get(epoch, 0) or origin in self.again


async def _read_log(client: ManagerClient, run_id: str) -> _Told:
    told, after = _Told(), 0
    while True:
        page = await client.events(run_id, after, limit=PAGE)
        for event in page.items:
            after = event.seq
            if event.epoch is not None and event.producer_seq is not None:
                told.through[event.epoch] = event.producer_seq
                if ORIGIN in event.payload:
                    told.again.add(_origin(event.payload, event.epoch, event.producer_seq))
            if event.payload.get("phase") == "command-terminal" and event.command_id is not None:
                told.closed.add(event.command_id)
        if not page.items:
            return told


def _origin(payload: Mapping[str, Any], epoch: int, producer_seq: int) -> Origin:
    """Which attempt first had an event, and as which of its events."""
    match payload.get(ORIGIN):
        case {"epoch": int(first_epoch), "producerSeq": int(first_seq)}:
            return first_epoch, first_seq
        case _:
            return epoch, producer_seq


def _untold(leftover: Leftover, told: _Told) -> list[_Entry]:
    """What of a leftover the log lacks, in order; counted as told from now on."""
    rest: list[_Entry] = []
    for producer_seq, event in leftover.events:
        payload: dict[str, Any] = msgspec.json.decode(event.payload)
        origin = _origin(payload, leftover.epoch, producer_seq)
        ends = payload.get("phase") == "command-terminal"
        # Such as a turn that was interrupted while nobody held the run: its end stands.
        if told.has(origin) or (ends and event.command_id in told.closed):
            continue
        told.again.add(origin)
        rest.append((producer_seq, origin, event, payload))
    return rest


def _replay(
    reporter: Reporter, leftover: Leftover, rest: list[_Entry], recovered: Recovered
) -> None:
    reporter.status(
        "spool-recovered",
        epoch=leftover.epoch,
        count=len(rest),
        firstProducerSeq=rest[0][0],
        lastProducerSeq=rest[-1][0],
    )
    for _, (epoch, producer_seq), event, payload in rest:
        mark = {"recovered": True, ORIGIN: {"epoch": epoch, "producerSeq": producer_seq}}
        encoded = msgspec.Raw(msgspec.json.encode({**payload, **mark}))
        reporter.replay(msgspec.structs.replace(event, payload=encoded))
        _note(event, payload, recovered)
        if recovered.run_ended is not None:
            return


def _note(event: NewEvent, payload: dict[str, Any], recovered: Recovered) -> None:
    phase = payload.get("phase") if event.type == "backend_status" else None
    if phase == "command-terminal" and event.command_id is not None:
        recovered.closed.add(event.command_id)
    elif phase == "run-terminal":
        recovered.run_ended = str(payload.get("terminalStatus"))
    elif phase in {"thread/start:completed", "thread/resume:completed"}:
        recovered.thread_id = str(payload.get("threadId"))
