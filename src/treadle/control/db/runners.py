"""The register of runners for operators, as functions over an open transaction."""

import msgspec

from treadle.control.access import Scope
from treadle.control.db.repository import WORK_WAITING, RunnerQuery
from treadle.control.db.transaction import Row, Transaction
from treadle.control.faults import NotFound
from treadle.control.records import RegisterRequest, Runner
from treadle.kit.clock import iso_millis

SESSION_DIGITS = 16


def list_runners(tx: Transaction, query: RunnerQuery) -> list[Runner]:
    """Runners, those heard of last first."""
    seen, after = query.cursor or (2**62, "")
    rows = tx.all(
        "list_runners",
        seen=seen,
        after=after,
        tenant_id=query.scope.tenant_id,
        project_id=query.scope.project_id,
        limit=query.limit,
    )
    return [_runner_of(row, tx.now_ms) for row in rows]


def drain_runner(tx: Transaction, runner_id: str, draining: bool, scope: Scope) -> Runner:
    """Let a runner of a scope take no more runs, or let it again; raises NotFound."""
    known = tx.one("read_runner", runner_id=runner_id)
    if known is None or not scope.holds(runner_scope(known)):
        raise _not_found()
    tx.run("set_draining", runner_id=runner_id, draining=int(draining))
    tx.touched.add(WORK_WAITING)  # a parked pool claim of this runner is to learn of it
    return show_runner(tx, runner_id, scope)


def show_runner(tx: Transaction, runner_id: str, scope: Scope) -> Runner:
    """One runner of a scope; raises NotFound."""
    row = tx.one("show_runner", runner_id=runner_id)
    if row is None or not scope.holds(runner_scope(row)):
        raise _not_found()
    return _runner_of(row, tx.now_ms)


def session_of(row: Row) -> str:
    """The public name of a runner's registration; it tells nothing of the token it is made from."""
    return bytes(row["session_sha256"]).hex()[:SESSION_DIGITS]


def runner_scope(row: Row) -> Scope:
    """Whose runner it is."""
    return Scope(row["tenant_id"], row["project_id"])


def _not_found() -> NotFound:
    return NotFound("runner", "No such runner; list the runners.")


def _runner_of(row: Row, now_ms: int) -> Runner:
    session = session_of(row)
    is_gone = row["gone_session"] == session
    details = msgspec.json.decode(row["details"], type=RegisterRequest)
    return Runner(
        id=row["runner_id"],
        session_id=session,
        attempt_id=row["attempt_id"],
        backend_profile=details.backend_profile,
        placement=details.placement,
        source_commit=details.source_commit,
        labels=details.labels or {},
        draining=bool(row["draining"]),
        held_runs=row["held_runs"] or 0,
        registered_at=iso_millis(row["registered_at_ms"] / 1000),
        last_seen_at=iso_millis(row["last_seen_ms"] / 1000),
        gone_at=iso_millis(row["gone_at_ms"] / 1000) if is_gone else None,
        silent_ms=max(0, now_ms - row["last_seen_ms"]),
    )
