"""A runner that was seen to be gone: its registration ends, its leases lapse, as transactions.

First the registration is marked, under the runner's name, so that no claim of it comes later; then
each run that it held lapses under the lock of its own head. Whoever reports again finds what is
left to do. Knows neither who reports nor how the end was seen.
"""

from dataclasses import dataclass

from treadle.control.access import Scope
from treadle.control.db.journal import RunJournal
from treadle.control.db.leases import lapse, runner_row
from treadle.control.db.repository import WORK_WAITING
from treadle.control.db.runners import session_of
from treadle.control.db.transaction import Transaction
from treadle.control.faults import NotFound
from treadle.control.rules import Loss


@dataclass(frozen=True, slots=True)
class Held:
    """A lease by its run and epoch; as epochs never come again, nobody else's."""

    run_id: str
    epoch: int
    runner_id: str


def mark_gone(tx: Transaction, runner_id: str, session: str, scope: Scope) -> list[Held]:
    """End a registration of a runner of the scope; the leases that it still holds.

    An earlier registration under the same id has its leases named and leaves the newer one alone.

    Raises:
        NotFound: there is no such runner in the scope.
    """
    runner = runner_row(tx, runner_id, scope)
    if session == session_of(runner) and session != runner["gone_session"]:
        tx.run("mark_gone", runner_id=runner_id, session=session, now=tx.now_ms)
        tx.touched.add(WORK_WAITING)  # a claim that this runner left parked is to be sent home
    rows = tx.all("held_by_session", runner_id=runner_id, session=session)
    return [Held(row["run_id"], row["epoch"], runner_id) for row in rows]


def lapse_held(tx: Transaction, held: list[Held], loss: Loss) -> list[str]:
    """Take such leases away, as if their time were over now; the runs whose lease was still on."""
    lapsed: list[str] = []
    for each in held:
        try:
            journal = RunJournal(tx, each.run_id)
        except NotFound:  # retention forgets runs
            continue
        head = journal.head
        if (head.epoch, head.runner_id) != (each.epoch, each.runner_id):
            continue
        head.lease_until_ms = tx.now_ms
        lapse(tx, journal, loss)
        journal.save()
        lapsed.append(each.run_id)
    return lapsed
