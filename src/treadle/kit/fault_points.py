"""Places in the code where a test may have the process killed or stopped.

A place is one call of `reach` with its name; nothing happens there unless the process was armed
for it at its start. Owns the plan and the count of passages. Knows neither what the places mean
nor where the plan comes from: only a composition root arms.
"""

import os
import re
import signal
import threading

import msgspec

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
"""What a fault does to its own process; `stop` lasts until somebody sends SIGCONT."""

_SHAPE = r"(?P<place>[a-z0-9_.-]+)=(?P<action>[a-z]+)(@(?P<passage>[1-9]\d{0,8}))?"


class Fault(msgspec.Struct, frozen=True):
    """What happens at a place, and at which passage through it (from 1 on)."""

    place: str
    action: str
    passage: int = 1


class _Armed:
    """Faults that are still to come, with how often their places were passed."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = {(fault.place, fault.passage): fault for fault in faults}
        self._places = {fault.place for fault in faults}
        self._passed = dict.fromkeys(self._places, 0)
        self._lock = threading.Lock()  # places are passed on threads too

    def pass_by(self, place: str) -> None:
        if place not in self._places:
            return
        with self._lock:
            self._passed[place] += 1
            fault = self._faults.get((place, self._passed[place]))
        if fault is not None:
            os.kill(os.getpid(), ACTIONS[fault.action])


_armed: _Armed | None = None


def reach(place: str) -> None:
    """Pass a place; does nothing unless this process was armed for it.

    Name a place `area.part.moment`, once in the whole code; `tests/structure` lists them all.
    """
    if _armed is not None:
        _armed.pass_by(place)


def parse_faults(text: str) -> list[Fault]:
    """Faults from a text such as `control.db.committed=kill@7,runner.spool.written=stop`.

    Raises:
        ValueError: it does not read so; the text says what was expected.
    """
    faults: list[Fault] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(_SHAPE, part)
        if match is None or match["action"] not in ACTIONS:
            known = " or ".join(ACTIONS)
            raise ValueError(f"{part!r} is no fault: write PLACE=ACTION@PASSAGE, ACTION is {known}")
        faults.append(Fault(match["place"], match["action"], int(match["passage"] or 1)))
    return faults


def arm(faults: list[Fault]) -> None:
    """Let these faults happen in this process; an empty list disarms it."""
    global _armed  # noqa: PLW0603 - one plan per process is the point
    _armed = _Armed(faults) if faults else None
