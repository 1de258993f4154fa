"""What a runner says to whoever started it, and what they say to the manager once it is gone.

A runner that is asked to announces each of its registrations as a line of JSON, before it claims
under it; so a process that watches it can name exactly what has ended. Knows no processes.
"""

import signal

import msgspec

from treadle.runner.manager_client import ManagerClient
from treadle.runner.manager_types import GoneAnswer, Registration, Shape


class Registered(Shape, frozen=True):
    """A registration as it is announced."""

    runner_id: str
    session_id: str


class _Line(Shape, frozen=True):
    registered: Registered


def announcement(registration: Registration) -> str:
    """The line that says it."""
    said = _Line(Registered(registration.id, registration.session_id))
    return msgspec.json.encode(said).decode()


def read_announcement(line: bytes) -> Registered | None:
    """The registration that a line announces; None where it says something else."""
    try:
        found = msgspec.json.decode(line, type=_Line).registered
    except msgspec.MsgspecError:
        return None
    return found if found.session_id else None  # a manager of an earlier release names none


def how_it_ended(returncode: int) -> str:
    """An exit status in words; negative for a signal."""
    if returncode >= 0:
        return f"exited with {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


async def report_gone(client: ManagerClient, registered: Registered, returncode: int) -> GoneAnswer:
    """Tell the manager that the process of a registration has ended; the same again is harmless.

    Raises:
        ManagerError, ManagerUnreachable: its leases then end by their time.
    """
    reason = how_it_ended(returncode)
    return await client.report_gone(registered.runner_id, registered.session_id, reason)
