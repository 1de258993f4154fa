"""What the control plane asks of a database, with the promises that each answer carries.

An implementation keeps the run log, its cached fold, commands, leases and runners. A method that
writes returns only once its effect is durable, and either all of it happened or nothing did; the
time in leases and events is the database's. Faults are those of `control.faults`; a foreign error
never leaves an implementation. The contract suite runs over every implementation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from treadle.control.access import EVERYTHING, Principal, Scope
from treadle.control.placed import GivenUp, PlacedRun
from treadle.control.records import (
    AppendAnswer,
    AppendRequest,
    Claim,
    Command,
    CommandPage,
    CommandRequest,
    EventPage,
    HeartbeatAnswer,
    HeartbeatRequest,
    Placement,
    RegisterRequest,
    Registration,
    ReleaseAnswer,
    ReleaseRequest,
    ResultEnvelope,
    Run,
    Runner,
    RunSpec,
)
from treadle.control.token_records import ApiToken, IssuedToken
from treadle.control.token_rules import TokenSpec
from treadle.domain.failures import FailureKind

# Stands beside the ids of changed runs when one of them now waits for a runner.
WORK_WAITING = ""

# Called with the runs whose log, commands or lease changed, after the commit, on the event loop.
OnCommit = Callable[[frozenset[str]], None]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """An idempotency key with the hash of the request it came with."""

    key: str
    request_sha256: bytes


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An encoded answer; `replayed` when an earlier request with the same key made it."""

    body: bytes
    replayed: bool


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims, and for how long (milliseconds)."""

    runner_id: str
    attempt_id: str | None
    lease_ms: int
    scope: Scope = EVERYTHING
    """What the caller sees: its runner must lie in it, and so do the runs it takes."""
    session_id: str | None = None
    """The registration that claims; None: the runner's current one, whichever that is."""


@dataclass(frozen=True, slots=True)
class Departure:
    """That a registration of a runner is over; `reason` says how it was seen, in words."""

    runner_id: str
    session_id: str
    reason: str | None = None
    scope: Scope = EVERYTHING
    """What the reporter sees: the runner must lie in it."""
    kind: FailureKind = FailureKind.RUNNER_CRASHED
    """What its leases were lost by; one that no retry mends ends their runs."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Filter of a run list; None matches all. `cursor` is the id of the last run seen."""

    limit: int
    cursor: str | None = None
    status: str | None = None
    tenant_id: str | None = None
    project_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunnerQuery:
    """Which runners to list; `cursor` is when the last one seen was heard of, and its id."""

    limit: int
    cursor: tuple[int, str] | None = None
    scope: Scope = EVERYTHING


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run's log and commands are; what a parked reader compares."""

    last_seq: int
    cmd_last: int
    ended: bool
    min_seq: int = 1
    """The first seq that is still there; `last_seq + 1` when all of it went."""


class Repository(Protocol):
    """The control plane's database."""

    @property
    def schema_version(self) -> int:
        """Number of the newest migration that was applied."""
        ...

    async def create_run(self, spec: RunSpec, key: RequestKey | None) -> StoredAnswer:
        """Store a run with its first event; the answer is an encoded `Run`.

        The same key with the same request answers the same bytes and stores nothing.

        Raises:
            IdempotencyConflict: the key came with another request before.
        """
        ...

    async def read_run(self, run_id: str) -> Run:
        """One run; raises NotFound."""
        ...

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """Runs in reverse order of their creation."""
        ...

    async def create_command(
        self, run_id: str, request: CommandRequest, payload: bytes, key: RequestKey | None
    ) -> StoredAnswer:
        """Give a command the next command seq of its run; the answer is an encoded `Command`.

        What `arrival` says is to be done at once happens in the same transaction.

        Raises:
            NotFound, RunEnded, RunBusy, IdempotencyConflict.
        """
        ...

    async def read_command(self, run_id: str, command_id: str) -> Command:
        """One command; raises NotFound."""
        ...

    async def list_commands(self, run_id: str, after_seq: int, limit: int) -> CommandPage:
        """Commands with a higher command seq, in order; raises NotFound for the run."""
        ...

    async def read_result(self, run_id: str, command_id: str | None) -> ResultEnvelope:
        """The result of a run or command, as the fold has it now; raises NotFound."""
        ...

    async def read_events(self, run_id: str, after_seq: int, limit: int) -> EventPage:
        """Events after a seq, in order, without gap, at most about 1 MiB.

        Raises:
            NotFound: there is no such run.
            EventsGone: retention has dropped what follows that seq.
        """
        ...

    async def read_progress(self, run_id: str) -> Progress:
        """How far a run is; raises NotFound."""
        ...

    async def register_runner(
        self, request: RegisterRequest, scope: Scope = EVERYTHING
    ) -> Registration:
        """Store a runner of a scope with a fresh session token; its id replaces the registration.

        Raises:
            InvalidRequest: the id belongs to a runner outside the scope.
        """
        ...

    async def list_runners(self, query: RunnerQuery) -> list[Runner]:
        """Runners, those heard of last first."""
        ...

    async def drain_runner(
        self, runner_id: str, draining: bool, scope: Scope = EVERYTHING
    ) -> Runner:
        """Let a runner take no more runs, or let it again.

        Raises:
            NotFound: there is none in the scope.
        """
        ...

    async def read_runner(self, runner_id: str, scope: Scope = EVERYTHING) -> Runner:
        """One runner; raises NotFound, outside the scope too."""
        ...

    async def end_session(self, departure: Departure) -> list[str]:
        """End a registration: it claims nothing more, and its leases lapse at once.

        A lease that it was granted before is among them; what it writes later is refused as that of
        any lapsed lease. Leases of other registrations under the same id stay. Returns the runs
        whose lease lapsed; repeating it finishes what a first call did not, and is harmless.

        Raises:
            NotFound: there is no such runner in the scope.
        """
        ...

    async def read_placed(
        self, placement: Placement, limit: int, named: list[str]
    ) -> list[PlacedRun]:
        """Runs of a placement that have work or a holder, and those of these ids, each once.

        At most `limit` of the former, oldest first; a run that is named and not there is missing.
        """
        ...

    async def give_up_attempt(self, given_up: GivenUp) -> bool:
        """Note that nobody will claim a run under an epoch; whether that was still to be noted.

        The epoch is used up by it. The run waits for its next attempt, or ends: where another one
        does not help, too many were lost, or it was to be cancelled. Nothing happens when somebody
        holds the run, or it has ended, or moved on.

        Raises:
            NotFound: there is no such run.
        """
        ...

    async def claim(self, run_id: str, claimant: Claimant) -> Claim:
        """Give the run to the claimant under the next epoch.

        Raises:
            NotFound: run or runner.
            RunnerDraining: this runner takes no more runs.
            RunnerGone: its registration is over.
            LeaseHeld: another lease is live; that this runner waits is noted once in the log.
            RunEnded: nothing to claim any more.
        """
        ...

    async def claim_waiting(
        self, claimant: Claimant, backend_profile: str | None, limit: int
    ) -> list[Claim]:
        """Claim up to `limit` runs, oldest first, that nobody holds and that have open commands.

        Raises:
            NotFound, RunnerDraining, RunnerGone.
        """
        ...

    async def append(self, run_id: str, token: str, request: AppendRequest) -> AppendAnswer:
        """Append a runner's events under its epoch, exactly once, and renew its lease.

        Raises:
            Fenced, BadToken, ProducerGap, RunEnded, InvalidRequest, NotFound.
        """
        ...

    async def heartbeat(
        self, runner_id: str, token: str, request: HeartbeatRequest
    ) -> HeartbeatAnswer:
        """Renew the leases that are still this runner's; raises NotFound, BadToken."""
        ...

    async def release(self, run_id: str, token: str, request: ReleaseRequest) -> ReleaseAnswer:
        """End a lease, leaving the run open; repeating it is harmless. Raises Fenced, BadToken."""
        ...

    async def lapse_leases(self, limit: int) -> int:
        """Take away up to `limit` lapsed leases; returns how many there were."""
        ...

    async def expire_commands(self, limit: int) -> int:
        """Close the turns of up to `limit` runs that nobody took up in time; how many runs."""
        ...

    async def read_run_scope(self, run_id: str) -> Scope:
        """Tenant and project of a run, which never change; raises NotFound."""
        ...

    async def create_token(self, spec: TokenSpec) -> IssuedToken:
        """Make a token; only the hash of its secret is stored."""
        ...

    async def list_tokens(self, scope: Scope) -> list[ApiToken]:
        """The tokens within a scope, newest first, ended ones too."""
        ...

    async def revoke_token(self, token_id: str, scope: Scope) -> ApiToken:
        """End a token for good; raises NotFound, outside the scope too."""
        ...

    async def find_principal(self, token: str) -> Principal | None:
        """Whom a token admits now; None when it is unknown, revoked or past its end."""
        ...

    async def drop_old_events(self, age_ms: int, limit: int) -> int:
        """Drop up to `limit` events, oldest first, of runs that ended longer than `age_ms` ago.

        Returns how many went; fewer than `limit`, when there are no more for now.
        """
        ...

    async def forget_old_runs(self, age_ms: int, limit: int) -> int:
        """Delete up to `limit` runs whose events went and that ended longer than `age_ms` ago."""
        ...

    async def verify_run(self, run_id: str) -> list[str]:
        """Fold the whole log again and compare with what is stored; returns the differences."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then give the database free. Idempotent."""
        ...
