"""The repository over database threads: each promise is a piece of work for one of them.

Says which thread does what and which locks it needs; knows no database and no rule.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from treadle.control.access import EVERYTHING, Principal, Scope
from treadle.control.db import (
    commands,
    departures,
    leases,
    placements,
    retention,
    runners,
    runs,
    tokens,
    verify,
)
from treadle.control.db.repository import (
    Claimant,
    Departure,
    Progress,
    RequestKey,
    RunnerQuery,
    RunQuery,
    StoredAnswer,
)
from treadle.control.db.transaction import NO_NEEDS, Needs, Pool, Transaction
from treadle.control.db.writer import DatabaseThread
from treadle.control.faults import ControlFault
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
from treadle.control.rules import runner_gone
from treadle.control.token_records import ApiToken, IssuedToken
from treadle.control.token_rules import TokenSpec

T = TypeVar("T")

LAPSES_AT_ONCE = 50


class AppendLane(Protocol):
    """A short way for appends that a database may have."""

    async def append(self, run_id: str, token: str, request: AppendRequest) -> AppendAnswer | None:
        """Append, or None: nothing is known of it, take the long way."""
        ...

    async def close(self) -> None:
        """Finish what was accepted."""
        ...


class ThreadRepository:
    """`Repository` on one writing and some reading threads; see there for what is promised."""

    def __init__(
        self,
        writer: DatabaseThread,
        readers: list[DatabaseThread],
        schema_version: int,
        after_close: Callable[[], Awaitable[None]],
        lane: AppendLane | None = None,
    ) -> None:
        """Use `open_sqlite` or `open_postgres`; `after_close` gives free what they hold.

        A `lane` is asked first for each append; where it has no answer, the writer is.
        """
        self._lane = lane
        self._writer = writer
        self._readers = readers
        self._schema_version = schema_version
        self._after_close = after_close

    @property
    def schema_version(self) -> int:
        """Number of the newest migration that was applied."""
        return self._schema_version

    async def create_run(self, spec: RunSpec, key: RequestKey | None) -> StoredAnswer:
        """See `Repository.create_run`."""
        needs = Needs(names=_names_of(f"tenant:{spec.tenant_id}", key))
        return await self._write(partial(runs.create_run, spec=spec, key=key), needs)

    async def read_run(self, run_id: str) -> Run:
        """See `Repository.read_run`."""
        return await self._read(partial(runs.read_run, run_id=run_id))

    async def list_runs(self, query: RunQuery) -> list[Run]:
        """See `Repository.list_runs`."""
        return await self._read(partial(runs.list_runs, query=query))

    async def create_command(
        self, run_id: str, request: CommandRequest, payload: bytes, key: RequestKey | None
    ) -> StoredAnswer:
        """See `Repository.create_command`."""
        work = partial(
            commands.create_command, run_id=run_id, request=request, payload=payload, key=key
        )
        return await self._write(work, Needs(runs=(run_id,), folds=True))

    async def read_command(self, run_id: str, command_id: str) -> Command:
        """See `Repository.read_command`."""
        work = partial(commands.read_command, run_id=run_id, command_id=command_id)
        return await self._read(work)

    async def list_commands(self, run_id: str, after_seq: int, limit: int) -> CommandPage:
        """See `Repository.list_commands`."""
        work = partial(commands.list_commands, run_id=run_id, after_seq=after_seq, limit=limit)
        return await self._read(work)

    async def read_result(self, run_id: str, command_id: str | None) -> ResultEnvelope:
        """See `Repository.read_result`."""
        work = partial(commands.read_result, run_id=run_id, command_id=command_id)
        return await self._read(work)

    async def read_events(self, run_id: str, after_seq: int, limit: int) -> EventPage:
        """See `Repository.read_events`."""
        work = partial(runs.read_events, run_id=run_id, after_seq=after_seq, limit=limit)
        return await self._read(work, Needs(page=(run_id, after_seq, limit)))

    async def read_progress(self, run_id: str) -> Progress:
        """See `Repository.read_progress`."""
        return await self._read(partial(runs.read_progress, run_id=run_id))

    async def register_runner(
        self, request: RegisterRequest, scope: Scope = EVERYTHING
    ) -> Registration:
        """See `Repository.register_runner`."""
        needs = Needs(names=_runner_names(request.id) if request.id else ())
        return await self._write(
            partial(leases.register_runner, request=request, scope=scope), needs
        )

    async def list_runners(self, query: RunnerQuery) -> list[Runner]:
        """See `Repository.list_runners`."""
        return await self._read(partial(runners.list_runners, query=query))

    async def drain_runner(
        self, runner_id: str, draining: bool, scope: Scope = EVERYTHING
    ) -> Runner:
        """See `Repository.drain_runner`."""
        work = partial(runners.drain_runner, runner_id=runner_id, draining=draining, scope=scope)
        return await self._write(work, Needs(names=_runner_names(runner_id)))

    async def read_runner(self, runner_id: str, scope: Scope = EVERYTHING) -> Runner:
        """See `Repository.read_runner`."""
        return await self._read(partial(runners.show_runner, runner_id=runner_id, scope=scope))

    async def end_session(self, departure: Departure) -> list[str]:
        """See `Repository.end_session`."""
        runner_id = departure.runner_id
        marking = partial(
            departures.mark_gone,
            runner_id=runner_id,
            session=departure.session_id,
            scope=departure.scope,
        )
        held = await self._write(
            marking, Needs(names=_runner_names(runner_id), runners=(runner_id,))
        )
        loss = runner_gone(departure.reason, departure.kind)
        lapsed: list[str] = []
        for start in range(0, len(held), LAPSES_AT_ONCE):
            some = held[start : start + LAPSES_AT_ONCE]
            needs = Needs(runs=tuple(each.run_id for each in some), folds=True)
            lapsed += await self._write(partial(departures.lapse_held, held=some, loss=loss), needs)
        return lapsed

    async def read_placed(
        self, placement: Placement, limit: int, named: list[str]
    ) -> list[PlacedRun]:
        """See `Repository.read_placed`."""
        work = partial(placements.read_placed, placement=placement, limit=limit, named=named)
        return await self._read(work)

    async def give_up_attempt(self, given_up: GivenUp) -> bool:
        """See `Repository.give_up_attempt`."""
        work = partial(placements.give_up, given_up=given_up)
        return await self._write(work, Needs(runs=(given_up.run_id,), folds=True))

    async def claim(self, run_id: str, claimant: Claimant) -> Claim:
        """See `Repository.claim`."""
        work = partial(leases.claim, run_id=run_id, claimant=claimant)
        needs = Needs(
            runs=(run_id,),
            names=_runner_names(claimant.runner_id),
            runners=(claimant.runner_id,),
            folds=True,
            offers=True,
        )
        return await self._write(work, needs)

    async def claim_waiting(
        self, claimant: Claimant, backend_profile: str | None, limit: int
    ) -> list[Claim]:
        """See `Repository.claim_waiting`."""
        work = partial(
            leases.claim_waiting, claimant=claimant, backend_profile=backend_profile, limit=limit
        )
        needs = Needs(
            names=_runner_names(claimant.runner_id),
            runners=(claimant.runner_id,),
            pool=Pool(backend_profile, claimant.scope, limit),
        )
        return await self._write(work, needs)

    async def append(self, run_id: str, token: str, request: AppendRequest) -> AppendAnswer:
        """See `Repository.append`."""
        if self._lane is not None:
            answer = await self._lane.append(run_id, token, request)
            if answer is not None:
                return answer
        work = partial(leases.append, run_id=run_id, token=token, request=request)
        return await self._write(work, Needs(runs=(run_id,), folds=True))

    async def heartbeat(
        self, runner_id: str, token: str, request: HeartbeatRequest
    ) -> HeartbeatAnswer:
        """See `Repository.heartbeat`."""
        work = partial(leases.heartbeat, runner_id=runner_id, token=token, request=request)
        held = tuple(run.run_id for run in request.runs)
        needs = Needs(runs=held, names=_runner_names(runner_id), runners=(runner_id,))
        return await self._write(work, needs)

    async def release(self, run_id: str, token: str, request: ReleaseRequest) -> ReleaseAnswer:
        """See `Repository.release`."""
        work = partial(leases.release, run_id=run_id, token=token, request=request)
        return await self._write(work, Needs(runs=(run_id,), folds=True))

    async def lapse_leases(self, limit: int) -> int:
        """See `Repository.lapse_leases`."""
        return await self._write(partial(leases.lapse_leases, limit=limit))

    async def expire_commands(self, limit: int) -> int:
        """See `Repository.expire_commands`."""
        due = await self._read(partial(commands.runs_with_due, limit=limit))
        for run_id in due:
            work = partial(commands.expire_due, run_id=run_id)
            await self._write(work, Needs(runs=(run_id,), folds=True))
        return len(due)

    async def read_run_scope(self, run_id: str) -> Scope:
        """See `Repository.read_run_scope`."""
        return await self._read(partial(runs.read_scope, run_id=run_id))

    async def create_token(self, spec: TokenSpec) -> IssuedToken:
        """See `Repository.create_token`."""
        return await self._write(partial(tokens.create_token, spec=spec))

    async def list_tokens(self, scope: Scope) -> list[ApiToken]:
        """See `Repository.list_tokens`."""
        return await self._read(partial(tokens.list_tokens, scope=scope))

    async def revoke_token(self, token_id: str, scope: Scope) -> ApiToken:
        """See `Repository.revoke_token`."""
        return await self._write(partial(tokens.revoke_token, token_id=token_id, scope=scope))

    async def find_principal(self, token: str) -> Principal | None:
        """See `Repository.find_principal`."""
        return await self._read(partial(tokens.find_principal, token=token))

    async def drop_old_events(self, age_ms: int, limit: int) -> int:
        """See `Repository.drop_old_events`."""
        return await self._write(partial(retention.drop_old_events, age_ms=age_ms, limit=limit))

    async def forget_old_runs(self, age_ms: int, limit: int) -> int:
        """See `Repository.forget_old_runs`."""
        return await self._write(partial(retention.forget_old_runs, age_ms=age_ms, limit=limit))

    async def verify_run(self, run_id: str) -> list[str]:
        """See `Repository.verify_run`."""
        return await self._read(partial(verify.verify_run, run_id=run_id))

    async def close(self) -> None:
        """See `Repository.close`."""
        for reader in self._readers:
            await reader.close()
        if self._lane is not None:
            await self._lane.close()
        await self._writer.close()
        await self._after_close()

    async def _read(
        self, work: Callable[[Transaction], T | ControlFault], needs: Needs = NO_NEEDS
    ) -> T:
        return await min(self._readers, key=lambda reader: reader.waiting).run(work, needs)

    async def _write(
        self, work: Callable[[Transaction], T | ControlFault], needs: Needs = NO_NEEDS
    ) -> T:
        return await self._writer.run(work, needs)


def _runner_names(runner_id: str) -> tuple[str, ...]:
    # One at a time for each runner: once its end was noted, no claim of it is still on its way.
    return (f"runner:{runner_id}",)


def _names_of(scope: str, key: RequestKey | None) -> tuple[str, ...]:
    # Two requests with one key on two managers: the second waits and finds the first's answer.
    return () if key is None else (f"key:{scope}:{key.key}",)
