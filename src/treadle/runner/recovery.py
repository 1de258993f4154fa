"""What an earlier attempt of a run wrote down and could not tell any more is told now.

Reads the spools that earlier epochs left in the folder, asks the manager's log how far each got,
and replays the rest under the new claim, marked `recovered`. Knows of events only that some of them
close commands or the run, because what is closed must not be done again.
"""

import asyncio
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

    Raises:
        Lost: the run was lost meanwhile.
        ManagerError, ManagerUnreachable: the run's log cannot be read.
    """
    recovered = Recovered()
    leftovers = await asyncio.to_thread(find_leftovers, folder, claim.run_id, claim.epoch)
    for leftover in leftovers:
        if leftover.events and recovered.run_ended is None:
            known = await _accepted(client, claim.run_id, leftover.epoch)
            rest = [(seq, event) for seq, event in leftover.events if seq > known]
            if rest:
                _replay(reporter, leftover, rest, recovered)
                await reporter.flush()
                reach("runner.recovery.replayed")
        drop_leftover(folder, claim.run_id, leftover.epoch)
    return recovered


async def _accepted(client: ManagerClient, run_id: str, epoch: int) -> int:
    """The last producer seq of `epoch` that is in the run's log."""
    last, after = 0, 0
    while True:
        page = await client.events(run_id, after, limit=PAGE)
        for event in page.items:
            after = event.seq
            if event.epoch == epoch and event.producer_seq is not None:
                last = max(last, event.producer_seq)
        if not page.items:
            return last


def _replay(
    reporter: Reporter,
    leftover: Leftover,
    rest: list[tuple[int, NewEvent]],
    recovered: Recovered,
) -> None:
    first, last = rest[0][0], rest[-1][0]
    reporter.status(
        "spool-recovered",
        epoch=leftover.epoch,
        count=len(rest),
        firstProducerSeq=first,
        lastProducerSeq=last,
    )
    for _, event in rest:
        payload: dict[str, Any] = msgspec.json.decode(event.payload)
        encoded = msgspec.Raw(msgspec.json.encode({**payload, "recovered": True}))
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
