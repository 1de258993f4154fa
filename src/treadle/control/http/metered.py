"""A repository that is measured: every call goes through, its time and outcome are counted.

Changes nothing that a caller can see. Knows what is counted, not how it is shown.
"""

from collections.abc import Awaitable
from typing import TypeVar

from treadle.control.access import EVERYTHING, Principal, Scope
from treadle.control.db.repository import (
    Claimant,
    Departure,
    Progress,
    Repository,
    RequestKey,
    RunnerQuery,
    RunQuery,
    StoredAnswer,
)
from treadle.control.faults import Fenced
from treadle.control.http.metrics import Metrics
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
from treadle.kit.clock import Clock
from treadle.kit.tracing import span

T = TypeVar("T")


class MeteredRepository:
    """Keeps the promises of the repository inside."""

    def __init__(self, inner: Repository, metrics: Metrics, clock: Clock) -> None:
        """Measure `inner` with `clock` into `metrics`."""
        self._inner = inner
        self._metrics = metrics
        self._clock = clock

    async def _timed(self, operation: str, call: Awaitable[T]) -> T:
        started = self._clock.monotonic()
        try:
            with span(f"db {operation}"):
                return await call
        except Fenced:
            self._metrics.fenced_writes.labels(operation).inc()
            raise
        finally:
            seconds = self._clock.monotonic() - started
            self._metrics.database_seconds.labels(operation).observe(seconds)

    @property
    def schema_version(self) -> int:
        """See Repository."""
        return self._inner.schema_version

    async def create_run(self, spec: RunSpec, key: RequestKey | None) -> StoredAnswer:
        """See Repository."""
        return await self._timed("create-run", self._inner.create_run(spec, key))

    async def read_run(self, run_id: str) -> Run:
        """See Repository."""
        return await self._timed("read", self._inner.read_run(run_id))

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """See Repository."""
        return await self._timed("list", self._inner.list_runs(query))

    async def create_command(
        self, run_id: str, request: CommandRequest, payload: bytes, key: RequestKey | None
    ) -> StoredAnswer:
        """See Repository."""
        call = self._inner.create_command(run_id, request, payload, key)
        return await self._timed("create-command", call)

    async def read_command(self, run_id: str, command_id: str) -> Command:
        """See Repository."""
        return await self._timed("read", self._inner.read_command(run_id, command_id))

    async def list_commands(self, run_id: str, after_seq: int, limit: int) -> CommandPage:
        """See Repository."""
        return await self._timed("list", self._inner.list_commands(run_id, after_seq, limit))

    async def read_result(self, run_id: str, command_id: str | None) -> ResultEnvelope:
        """See Repository."""
        return await self._timed("read", self._inner.read_result(run_id, command_id))

    async def read_events(self, run_id: str, after_seq: int, limit: int) -> EventPage:
        """See Repository."""
        return await self._timed("events", self._inner.read_events(run_id, after_seq, limit))

    async def read_progress(self, run_id: str) -> Progress:
        """See Repository."""
        return await self._timed("read", self._inner.read_progress(run_id))

    async def register_runner(
        self, request: RegisterRequest, scope: Scope = EVERYTHING
    ) -> Registration:
        """See Repository."""
        return await self._timed("register", self._inner.register_runner(request, scope))

    async def list_runners(self, query: RunnerQuery) -> list[Runner]:
        """See Repository."""
        return await self._timed("list", self._inner.list_runners(query))

    async def drain_runner(
        self, runner_id: str, draining: bool, scope: Scope = EVERYTHING
    ) -> Runner:
        """See Repository."""
        return await self._timed("drain", self._inner.drain_runner(runner_id, draining, scope))

    async def read_runner(self, runner_id: str, scope: Scope = EVERYTHING) -> Runner:
        """See Repository."""
        return await self._timed("read", self._inner.read_runner(runner_id, scope))

    async def end_session(self, departure: Departure) -> list[str]:
        """See Repository."""
        lapsed = await self._timed("gone", self._inner.end_session(departure))
        self._metrics.gone_leases.inc(len(lapsed))
        return lapsed

    async def read_placed(
        self, placement: Placement, limit: int, named: list[str]
    ) -> list[PlacedRun]:
        """See Repository."""
        return await self._timed("read-placed", self._inner.read_placed(placement, limit, named))

    async def give_up_attempt(self, given_up: GivenUp) -> bool:
        """See Repository."""
        return await self._timed("give-up-attempt", self._inner.give_up_attempt(given_up))

    async def claim(self, run_id: str, claimant: Claimant) -> Claim:
        """See Repository."""
        claim = await self._timed("claim", self._inner.claim(run_id, claimant))
        self._metrics.count_claims([claim])
        return claim

    async def claim_waiting(
        self, claimant: Claimant, backend_profile: str | None, limit: int
    ) -> list[Claim]:
        """See Repository."""
        call = self._inner.claim_waiting(claimant, backend_profile, limit)
        claims = await self._timed("claim", call)
        self._metrics.count_claims(claims)
        return claims

    async def append(self, run_id: str, token: str, request: AppendRequest) -> AppendAnswer:
        """See Repository."""
        answer = await self._timed("append", self._inner.append(run_id, token, request))
        if not answer.duplicate:
            self._metrics.append_events.observe(len(request.events))
            self._metrics.count_events(request.events)
        return answer

    async def heartbeat(
        self, runner_id: str, token: str, request: HeartbeatRequest
    ) -> HeartbeatAnswer:
        """See Repository."""
        call = self._inner.heartbeat(runner_id, token, request)
        answer = await self._timed("heartbeat", call)
        self._metrics.lost_runs.inc(len(answer.lost))
        return answer

    async def release(self, run_id: str, token: str, request: ReleaseRequest) -> ReleaseAnswer:
        """See Repository."""
        return await self._timed("release", self._inner.release(run_id, token, request))

    async def lapse_leases(self, limit: int) -> int:
        """See Repository."""
        count = await self._timed("sweep", self._inner.lapse_leases(limit))
        self._metrics.lease_expirations.inc(count)
        return count

    async def expire_commands(self, limit: int) -> int:
        """See Repository."""
        return await self._timed("expire", self._inner.expire_commands(limit))

    async def read_run_scope(self, run_id: str) -> Scope:
        """See Repository."""
        return await self._timed("read", self._inner.read_run_scope(run_id))

    async def create_token(self, spec: TokenSpec) -> IssuedToken:
        """See Repository."""
        return await self._timed("token", self._inner.create_token(spec))

    async def list_tokens(self, scope: Scope) -> list[ApiToken]:
        """See Repository."""
        return await self._timed("list", self._inner.list_tokens(scope))

    async def revoke_token(self, token_id: str, scope: Scope) -> ApiToken:
        """See Repository."""
        return await self._timed("token", self._inner.revoke_token(token_id, scope))

    async def find_principal(self, token: str) -> Principal | None:
        """See Repository."""
        return await self._timed("read", self._inner.find_principal(token))

    async def drop_old_events(self, age_ms: int, limit: int) -> int:
        """See Repository."""
        return await self._timed("retain", self._inner.drop_old_events(age_ms, limit))

    async def forget_old_runs(self, age_ms: int, limit: int) -> int:
        """See Repository."""
        return await self._timed("retain", self._inner.forget_old_runs(age_ms, limit))

    async def verify_run(self, run_id: str) -> list[str]:
        """See Repository."""
        return await self._timed("verify", self._inner.verify_run(run_id))

    async def close(self) -> None:
        """See Repository."""
        await self._inner.close()
