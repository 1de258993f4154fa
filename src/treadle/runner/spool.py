"""The runner's own log of what it has to tell: on disk before it is sent.

One file per run and epoch in the spool folder: a line per event, fsynced per flush, and beside it
the producer seq that the manager has acknowledged. A killed runner leaves the pair behind; the next
attempt reads what was never acknowledged. A torn last line is the mark of a kill, not an error.
Knows no HTTP; what an event means is not its business.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from treadle.kit.fault_points import reach
from treadle.runner.manager_types import NewEvent


class _Line(msgspec.Struct, frozen=True):
    seq: int
    event: NewEvent


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an earlier attempt of a run spooled and never saw acknowledged."""

    epoch: int
    events: list[tuple[int, NewEvent]]
    """Producer seq and event, in order."""


class StaleEpoch(Exception):
    """The folder has been used by a newer attempt of the run."""


class Spool:
    """Append-only file of one attempt."""

    def __init__(self, folder: Path, run_id: str, epoch: int) -> None:
        """Take over `folder` for this epoch of the run.

        Raises:
            StaleEpoch: a newer epoch has been here.
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._mark = folder / f"{run_id}.epoch"
        _enter(self._mark, epoch)
        self._path = _spool_path(folder, run_id, epoch)
        self._ack_path = self._path.with_suffix(".ack")
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def write(self, first_seq: int, events: Sequence[NewEvent]) -> None:
        """Append events from `first_seq` on; on disk when this returns."""
        lines = [
            msgspec.json.encode(_Line(seq, event)) + b"\n"
            for seq, event in enumerate(events, first_seq)
        ]
        await asyncio.to_thread(self._write, b"".join(lines))

    def _write(self, content: bytes) -> None:
        reach("runner.spool.writing")
        view = memoryview(content)
        while view:
            view = view[os.write(self._file, view) :]
        reach("runner.spool.written")
        os.fdatasync(self._file)
        reach("runner.spool.synced")

    def acknowledge(self, seq: int) -> None:
        """Note that the manager has all up to `seq`. Behind the truth after a kill, never ahead."""
        reach("runner.spool.acknowledging")
        self._ack_path.write_text(str(seq))
        reach("runner.spool.acknowledged")

    def close(self, *, discard: bool) -> None:
        """End; `discard` when the manager has everything."""
        os.close(self._file)
        if discard:
            for path in (self._path, self._ack_path):
                path.unlink(missing_ok=True)


def find_leftovers(folder: Path, run_id: str, epoch: int) -> list[Leftover]:
    """What attempts of the run before `epoch` left in `folder`, oldest first."""
    found: list[Leftover] = []
    for path in folder.glob(f"{run_id}.*.spool"):
        number = path.name.split(".")[-2]
        if not number.isdigit() or int(number) >= epoch:
            continue
        events = [entry for entry in _read(path) if entry[0] > _acknowledged(path)]
        found.append(Leftover(int(number), events))
    return sorted(found, key=lambda leftover: leftover.epoch)


def drop_leftover(folder: Path, run_id: str, epoch: int) -> None:
    """Forget what the attempt of `epoch` left: it is in the manager's log now."""
    reach("runner.spool.dropping")
    path = _spool_path(folder, run_id, epoch)
    for each in (path, path.with_suffix(".ack")):
        each.unlink(missing_ok=True)


def _spool_path(folder: Path, run_id: str, epoch: int) -> Path:
    return folder / f"{run_id}.{epoch}.spool"


def _enter(mark: Path, epoch: int) -> None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        if int(mark.read_text()) > epoch:
            raise StaleEpoch(f"A newer attempt than epoch {epoch} uses {mark.parent}.")
    fresh = mark.with_suffix(f".{epoch}.new")
    fresh.write_text(str(epoch))
    reach("runner.spool.entering")
    fresh.replace(mark)
    reach("runner.spool.entered")


def _acknowledged(path: Path) -> int:
    try:
        return int(path.with_suffix(".ack").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _read(path: Path) -> list[tuple[int, NewEvent]]:
    entries: list[tuple[int, NewEvent]] = []
    for line in path.read_bytes().splitlines():
        try:
            entry = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, msgspec.ValidationError):
            break
        entries.append((entry.seq, entry.event))
    return entries
