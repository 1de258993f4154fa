"""Runners, claims, fenced appends, heartbeats and releases, over an open transaction.

Decisions are those of `control.rules`; here they are carried out. A fault that is *returned*
instead of raised lets the transaction commit what was noted on the way.
"""

import hashlib
import hmac
import secrets
from typing import Any

import msgspec

from treadle.control.access import EVERYTHING, Scope
from treadle.control.db.commands import close_due, command_of
from treadle.control.db.journal import RunJournal
from treadle.control.db.repository import Claimant
from treadle.control.db.runners import runner_scope, session_of
from treadle.control.db.runs import run_in
from treadle.control.db.transaction import Row, Transaction
from treadle.control.faults import (
    BadToken,
    ControlFault,
    Fenced,
    InvalidRequest,
    LeaseHeld,
    NotFound,
    ProducerGap,
    RunEnded,
    RunnerDraining,
    RunnerGone,
)
from treadle.control.fold import run_status
from treadle.control.records import (
    DEFAULT_LEASE_MS,
    AppendAnswer,
    AppendRequest,
    Claim,
    HeartbeatAnswer,
    HeartbeatRequest,
    HeldRun,
    HeldRunAnswer,
    RegisterRequest,
    Registration,
    ReleaseAnswer,
    ReleaseRequest,
    TerminalStatus,
)
from treadle.control.rules import (
    LOST_ENDS,
    SILENCE,
    Duplicate,
    Ended,
    Gap,
    Grant,
    Held,
    Loss,
    Stale,
    decide_append,
    decide_claim,
    decide_lapse,
)
from treadle.domain.failures import FACTS
from treadle.kit.mint import new_id

# Commands offered with a claim; the rest is fetched by command seq.
OFFERED_COMMANDS = 200
NEXT_FLUSH_MS = 50
TOUCH_MS = 1000
"""How stale it may be when a runner was heard of last: claims come in rows."""
DRAINING = "This runner is being drained and takes no more runs; register it anew, or end it."
GONE = (
    "This registration is over: the runner was reported gone, or its id was registered anew; "
    "register again."
)


def register_runner(tx: Transaction, request: RegisterRequest, scope: Scope) -> Registration:
    """Store the runner; only the hash of its token stays."""
    runner_id = request.id or f"runner_{new_id()}"
    known = tx.one("read_runner", runner_id=runner_id) if request.id else None
    if known is not None and not scope.holds(runner_scope(known)):
        raise InvalidRequest("Another tenant's runner has this id; choose another.", "$.id")
    token = secrets.token_urlsafe(32)
    tx.run(
        "put_runner",
        runner_id=runner_id,
        attempt_id=request.attempt_id,
        details=msgspec.json.encode(request).decode(),
        session_sha256=_digest(token),
        tenant_id=scope.tenant_id,
        project_id=scope.project_id,
        now=tx.now_ms,
    )
    return Registration(
        id=runner_id,
        session_id=session_of({"session_sha256": _digest(token)}),
        token=token,
        lease_ms=DEFAULT_LEASE_MS,
        heartbeat_ms=DEFAULT_LEASE_MS // 3,
    )


def claim(tx: Transaction, run_id: str, claimant: Claimant) -> Claim | ControlFault:
    """Grant the run, or note that this runner waits for it."""
    return _claim(tx, run_id, claimant, _claiming_runner(tx, claimant))


def _claim(tx: Transaction, run_id: str, claimant: Claimant, runner: Row) -> Claim | ControlFault:
    attempt_id = claimant.attempt_id or runner["attempt_id"]
    journal = RunJournal(tx, run_id)
    facts = journal.head.facts
    decision = decide_claim(facts, claimant.runner_id, attempt_id, tx.now_ms)
    if isinstance(decision, Held):
        _note_waiting(tx, journal, claimant.runner_id, attempt_id, decision.remaining_ms)
        return LeaseHeld(decision.by, decision.remaining_ms)
    if isinstance(decision, Grant) and facts.runner_id is not None and decision.recovered:
        lapse(tx, journal, SILENCE)
    if isinstance(decision, Ended) or journal.head.ended:
        return RunEnded(journal.fold.terminal_status or TerminalStatus.FAILED)
    return _grant(tx, journal, claimant, (attempt_id, session_of(runner)), decision)


def claim_waiting(
    tx: Transaction, claimant: Claimant, backend_profile: str | None, limit: int
) -> list[Claim]:
    """Grant the oldest runs with open work that nobody holds."""
    # Looked at first, or runs would be taken for nobody.
    runner = _claiming_runner(tx, claimant)
    if tx.now_ms - runner["last_seen_ms"] >= TOUCH_MS:
        tx.run("touch_runner", runner_id=claimant.runner_id, now=tx.now_ms)
    rows = tx.all(
        "waiting_runs",
        backend_profile=backend_profile,
        tenant_id=claimant.scope.tenant_id,
        project_id=claimant.scope.project_id,
        limit=limit,
    )
    claims = [_claim(tx, row["run_id"], claimant, runner) for row in rows]
    return [granted for granted in claims if isinstance(granted, Claim)]


def append(tx: Transaction, run_id: str, token: str, request: AppendRequest) -> AppendAnswer:
    """Add what is new of the batch and renew the lease."""
    journal = RunJournal(tx, run_id)
    head = journal.head
    decision = decide_append(
        head.facts, request.epoch, request.first_producer_seq, len(request.events)
    )
    if isinstance(decision, Stale):
        raise Fenced(head.epoch)
    _check_token(token, head.token_sha256)
    if isinstance(decision, Ended):
        raise RunEnded(journal.fold.terminal_status or TerminalStatus.FAILED)
    if isinstance(decision, Gap):
        raise ProducerGap(decision.expected)
    duplicate = isinstance(decision, Duplicate)
    if not isinstance(decision, Duplicate):
        journal.extend(request.events[decision.skip :], decision.skip)
        head.lease_until_ms = tx.now_ms + head.lease_ms
        journal.save()
    return AppendAnswer(
        acked_producer_seq=head.producer_seq,
        last_seq=head.last_seq,
        cmd_last=head.cmd_last,
        cancel=bool(head.cancel),
        remaining_ms=_remaining(tx, head.runner_id, head.lease_until_ms),
        next_flush_ms=NEXT_FLUSH_MS,
        duplicate=duplicate,
    )


def heartbeat(
    tx: Transaction, runner_id: str, token: str, request: HeartbeatRequest
) -> HeartbeatAnswer:
    """Renew what is still held; name what is lost."""
    runner = runner_row(tx, runner_id)
    _check_token(token, runner["session_sha256"])
    tx.run("touch_runner", runner_id=runner_id, now=tx.now_ms)
    lost: list[str] = []
    kept: list[HeldRunAnswer] = []
    for held in sorted(request.runs, key=lambda run: run.run_id):
        journal = _held_by(tx, runner_id, held)
        if journal is None:
            lost.append(held.run_id)
            continue
        journal.renew()
        head = journal.head
        kept.append(
            HeldRunAnswer(
                run_id=held.run_id,
                cmd_last=head.cmd_last,
                cancel=bool(head.cancel),
                remaining_ms=head.lease_ms,
            )
        )
    return HeartbeatAnswer(lost=lost, runs=kept, draining=bool(runner["draining"]))


def _held_by(tx: Transaction, runner_id: str, held: HeldRun) -> RunJournal | None:
    """The run, if this runner still holds it under this epoch."""
    try:
        journal = RunJournal(tx, held.run_id)
    except NotFound:
        return None
    mine = (journal.head.runner_id, journal.head.epoch) == (runner_id, held.epoch)
    return journal if mine else None


def release(tx: Transaction, run_id: str, token: str, request: ReleaseRequest) -> ReleaseAnswer:
    """End the lease; a second time, or after the end of the run, there is nothing to do."""
    journal = RunJournal(tx, run_id)
    head = journal.head
    if request.epoch != head.epoch or head.epoch == 0 or head.last_end in LOST_ENDS:
        raise Fenced(head.epoch)
    _check_token(token, head.token_sha256)
    if head.runner_id is not None:
        reason = request.reason or "released"
        journal.note("run-released", epoch=head.epoch, runnerId=head.runner_id, reason=reason)
        journal.end_lease("released")
        journal.save()
    return ReleaseAnswer(run_id=run_id, status=run_status(journal.fold), last_seq=head.last_seq)


def lapse_leases(tx: Transaction, limit: int) -> int:
    """Take lapsed leases away; a run that lost too many of them fails."""
    rows = tx.all("lapsed_runs", now=tx.now_ms, limit=limit)
    for row in rows:
        journal = RunJournal(tx, row["run_id"])
        lapse(tx, journal, SILENCE)
        journal.save()
    return len(rows)


def lapse(tx: Transaction, journal: RunJournal, loss: Loss) -> None:
    """Take a lease away whose time is over; too many losses fail the run. Saves nothing."""
    head = journal.head
    verdict = decide_lapse(head.facts, journal.fold.losses, journal.spec.max_attempts, tx.now_ms)
    if verdict is None:
        return
    hopeless = not FACTS[loss.kind].retryable
    why = {"failureKind": loss.kind, "failureMessage": loss.message}
    journal.note("run-lease-expired", epoch=head.epoch, runnerId=head.runner_id, **why)
    if verdict == "requeue" and not hopeless:
        journal.end_lease(loss.end)
        return
    lost = f"{journal.fold.losses} runners in turn lost the lease of this run. "
    journal.note(
        "run-terminal",
        terminalStatus=TerminalStatus.FAILED,
        failureKind=loss.kind,
        failureMessage=f"{'' if hopeless else lost}{loss.message}",
    )


def _grant(
    tx: Transaction,
    journal: RunJournal,
    claimant: Claimant,
    attempt: tuple[str | None, str],
    decision: Grant,
) -> Claim:
    head, (attempt_id, session) = journal.head, attempt
    token = secrets.token_urlsafe(32)
    if head.runner_id is not None:
        journal.end_lease("reclaimed")
    if decision.recovered:
        _note_waiting(tx, journal, claimant.runner_id, attempt_id, 0)
    head.epoch += 1
    head.attempt += 1
    head.producer_seq = 0
    head.runner_id = head.last_holder = claimant.runner_id
    head.attempt_id = attempt_id
    head.token_sha256 = _digest(token)
    head.lease_ms = claimant.lease_ms
    head.lease_until_ms = tx.now_ms + claimant.lease_ms
    head.last_end = None
    who: dict[str, Any] = {
        "runnerId": claimant.runner_id,
        "attemptId": attempt_id,
        "epoch": head.epoch,
    }
    journal.note(
        "run-claimed", reason=decision.reason, backendProfile=journal.spec.backend_profile, **who
    )
    if decision.recovered:
        journal.note("runner-claim-recovered", **who)
    tx.run(
        "start_attempt",
        run_id=journal.run_id,
        epoch=head.epoch,
        runner_id=claimant.runner_id,
        attempt_id=attempt_id,
        session=session,
        now=tx.now_ms,
    )
    close_due(journal, tx.now_ms)
    journal.save()
    rows = tx.all("open_commands", run_id=journal.run_id, limit=OFFERED_COMMANDS)
    return Claim(
        run_id=journal.run_id,
        epoch=head.epoch,
        token=token,
        lease_ms=claimant.lease_ms,
        remaining_ms=claimant.lease_ms,
        last_seq=head.last_seq,
        cmd_last=head.cmd_last,
        reason=decision.reason,
        run=run_in(journal),
        commands=[command_of(row) for row in rows],
    )


def _note_waiting(
    tx: Transaction, journal: RunJournal, runner_id: str, attempt_id: str | None, remaining_ms: int
) -> None:
    """Say in the log, once per waiting attempt and lease, that a runner meets another's lease."""
    waiter = f"{runner_id}/{attempt_id or ''}"
    noted = tx.one("note_wait", run_id=journal.run_id, epoch=journal.head.epoch, waiter=waiter)
    if noted is None:
        return
    journal.note(
        "runner-claim-waiting-for-stale-lease",
        runnerId=runner_id,
        attemptId=attempt_id,
        heldBy=journal.head.last_holder,
        remainingMs=remaining_ms,
    )
    journal.save()


def _claiming_runner(tx: Transaction, claimant: Claimant) -> Row:
    """The row of a runner that may claim."""
    runner = runner_row(tx, claimant.runner_id, claimant.scope)
    session = session_of(runner)
    if runner["gone_session"] == session or claimant.session_id not in (None, session):
        raise RunnerGone(GONE)
    if runner["draining"]:
        raise RunnerDraining(DRAINING)
    return runner


def runner_row(tx: Transaction, runner_id: str, scope: Scope = EVERYTHING) -> Row:
    """A runner of a scope as it is stored; raises NotFound."""
    row = tx.one("read_runner", runner_id=runner_id)
    if row is None or not scope.holds(runner_scope(row)):
        raise NotFound("runner", "No such runner; register it first.")
    return row


def _remaining(tx: Transaction, runner_id: str | None, lease_until_ms: int) -> int:
    return max(0, lease_until_ms - tx.now_ms) if runner_id is not None else 0


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _check_token(token: str, expected: bytes | None) -> None:
    if expected is None or not hmac.compare_digest(_digest(token), expected):
        raise BadToken("Send the token that came with this claim or registration as Bearer token.")
