"""A typed client of the manager's HTTP API, for runners and command lines.

The one home of httpx beside the command line. Each call says by its nature whether it may be sent
again when the answer was lost: reads, registrations, heartbeats and everything with an idempotency
key are; claims are not, since the caller decides how long to wait. Knows no policy of a runner.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec

from treadle.kit.mint import new_id
from treadle.kit.tracing import traceparent
from treadle.runner.manager_types import (
    ApiToken,
    ApiTokenList,
    AppendAnswer,
    Claim,
    ClaimList,
    Command,
    CommandPage,
    Event,
    EventPage,
    GoneAnswer,
    HeartbeatAnswer,
    IssuedToken,
    NewEvent,
    Registration,
    ResultEnvelope,
    Run,
    Runner,
    RunnerPage,
    RunPage,
    Shape,
    Verification,
)

T = TypeVar("T")

CONNECT_SECONDS = 5.0
KEEP_SECONDS = 60.0
"""An unused connection is kept over several heartbeats; the manager keeps it for longer."""
ANSWER_SECONDS = 30.0
"""How long an answer may take beyond the time that the request itself asks to be parked."""
STREAM_SILENCE_SECONDS = 40.0
"""The manager sends a comment every 15 s; a stream silent for this long is dead."""
TRIES = 4
FIRST_PAUSE_SECONDS = 0.05


class ManagerUnreachable(Exception):
    """No answer: refused, timed out or cut. Whether the request had an effect is unknown."""


class ManagerError(Exception):
    """The manager answered with a problem; `code` is stable, `detail` says what to do."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        """Take the status and the members of the problem."""
        self.status = status
        self.code = str(problem.get("code") or "unknown")
        self.detail = str(problem.get("detail") or problem.get("title") or f"status {status}")
        self.members = dict(problem)
        super().__init__(f"{self.code}: {self.detail}")

    @property
    def retry_after_seconds(self) -> float | None:
        """What the manager asked to wait before another try."""
        value = self.members.get("retryAfterMs")
        return value / 1000 if isinstance(value, int | float) else None


class _EventsBody(Shape, frozen=True):
    epoch: int
    first_producer_seq: int
    events: list[NewEvent]


class ManagerClient:
    """Calls of one manager; use as an async context manager or call `close`."""

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Talk to the manager at `base_url` with an API token, where it wants one.

        Args:
            base_url: as in `http://127.0.0.1:8700`.
            token: sent as bearer token on all calls that take an API token.
            transport: another way to reach the manager, for tests.
        """
        self._token = token
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(
                max_connections=100,
                max_keepalive_connections=20,
                keepalive_expiry=KEEP_SECONDS,
            ),
            transport=transport,
            trust_env=False,
            # The certificate store takes longer to load than a call; plain http has no use for it.
            verify=base_url.startswith("https:"),
        )

    async def __aenter__(self) -> "ManagerClient":
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # Clients

    async def create_run(self, body: Mapping[str, Any]) -> Run:
        """Create a run; gets an idempotency key unless `body` has one."""
        return await self._post("/api/v1/runs", {"idempotencyKey": new_id(), **body}, Run)

    async def get_run(self, run_id: str) -> Run:
        """A run as it stands."""
        return await self._get(f"/api/v1/runs/{run_id}", {}, Run)

    async def list_runs(self, **query: str | int | None) -> RunPage:
        """Runs, newest first; `limit`, `cursor`, `status`, `tenantId`, `projectId`."""
        return await self._get("/api/v1/runs", query, RunPage)

    async def post_command(
        self,
        run_id: str,
        command_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        expires_in_ms: int | None = None,
        idempotency_key: str | None = None,
    ) -> Command:
        """Ask something of a run; a turn may be given up when no runner takes it in time."""
        body = _present(
            {
                "type": command_type,
                "payload": dict(payload or {}),
                "expiresInMs": expires_in_ms,
                "idempotencyKey": idempotency_key or new_id(),
            }
        )
        return await self._post(f"/api/v1/runs/{run_id}/commands", body, Command)

    async def get_command(self, run_id: str, command_id: str) -> Command:
        """A command as it stands."""
        return await self._get(f"/api/v1/runs/{run_id}/commands/{command_id}", {}, Command)

    async def commands(self, run_id: str, after_seq: int = 0, wait_ms: int = 0) -> CommandPage:
        """Commands after a `cmdSeq`; parked up to `wait_ms` while there is none."""
        query = {"afterSeq": after_seq, "waitMs": wait_ms}
        path = f"/api/v1/runs/{run_id}/commands"
        return await self._get(path, query, CommandPage, wait_ms)

    async def result(self, run_id: str, command_id: str | None = None) -> ResultEnvelope:
        """The outcome of a run, or of one of its commands."""
        query = {"commandId": command_id}
        return await self._get(f"/api/v1/runs/{run_id}/result", query, ResultEnvelope)

    async def verify_run(self, run_id: str) -> list[str]:
        """What in a run's state its log does not explain; empty when all is well."""
        answer = await self._get(f"/api/v1/runs/{run_id}/verification", {}, Verification)
        return answer.findings

    async def events(
        self, run_id: str, after_seq: int = 0, *, limit: int = 100, wait_ms: int = 0
    ) -> EventPage:
        """A page of a run's log; parked up to `wait_ms` while there is nothing newer."""
        query = {"afterSeq": after_seq, "limit": limit, "waitMs": wait_ms}
        return await self._get(f"/api/v1/runs/{run_id}/events", query, EventPage, wait_ms)

    async def follow(self, run_id: str, after_seq: int = 0) -> AsyncIterator[Event]:
        """Every event after `after_seq` until the run has ended; survives a cut stream."""
        pause, seen = FIRST_PAUSE_SECONDS, after_seq
        while True:
            try:
                async for name, data in self._stream(run_id, seen):
                    if name == "end":
                        return
                    event = msgspec.json.decode(data, type=Event)
                    seen, pause = event.seq, FIRST_PAUSE_SECONDS
                    yield event
            except (httpx.HTTPError, ManagerUnreachable):
                pause = min(pause * 2, 2.0)
            await asyncio.sleep(pause)

    async def _stream(self, run_id: str, after_seq: int) -> AsyncIterator[tuple[str, str]]:
        timeout = httpx.Timeout(STREAM_SILENCE_SECONDS, connect=CONNECT_SECONDS)
        async with self._http.stream(
            "GET",
            f"/api/v1/runs/{run_id}/stream",
            params={"afterSeq": after_seq},
            headers=self._headers(self._token),
            timeout=timeout,
        ) as response:
            if response.status_code != 200:
                raise _problem(response.status_code, await response.aread())
            name, data = "message", ""
            async for line in response.aiter_lines():
                if line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("data:"):
                    data += line[5:].strip()
                elif not line and data:
                    yield name, data
                    name, data = "message", ""

    async def list_runners(self, **query: str | int | None) -> RunnerPage:
        """Runners, those heard of last first; `limit`, `cursor`."""
        return await self._get("/api/v1/runners", query, RunnerPage)

    async def drain_runner(self, runner_id: str, *, draining: bool = True) -> Runner:
        """Let a runner take no more runs, or let it again."""
        body = {"draining": draining}
        return await self._post(f"{_runner(runner_id)}/drain", body, Runner)

    async def get_runner(self, runner_id: str) -> Runner:
        """A runner as it stands."""
        return await self._get(_runner(runner_id), {}, Runner)

    async def report_gone(
        self, runner_id: str, session_id: str, reason: str | None = None
    ) -> GoneAnswer:
        """Say that the process of a registration has ended; the same again is harmless."""
        body = _present({"sessionId": session_id, "reason": reason})
        return await self._post(f"{_runner(runner_id)}/gone", body, GoneAnswer)

    async def create_token(self, **body: Any) -> IssuedToken:
        """Make a token; asked once only, since a second one would be made."""
        return await self._post("/api/v1/tokens", _present(body), IssuedToken, may_repeat=False)

    async def tokens(self) -> ApiTokenList:
        """The tokens that the caller may see."""
        return await self._get("/api/v1/tokens", {}, ApiTokenList)

    async def revoke_token(self, token_id: str) -> ApiToken:
        """End a token for good."""
        path = f"/api/v1/tokens/{quote(token_id, safe='')}"
        request = self._http.build_request("DELETE", path, headers=self._headers(self._token))
        return _decoded(await self._once(request), ApiToken)

    # Runners

    async def register(self, **body: Any) -> Registration:
        """Register a runner; with an `id` of its own it may be sent again."""
        return await self._post("/api/v1/runners/register", _present(body), Registration)

    async def claim(
        self,
        run_id: str,
        runner_id: str,
        lease_ms: int | None,
        attempt_id: str | None,
        session_id: str | None = None,
    ) -> Claim:
        """Claim one run; raises ManagerError `lease-held` while another lease is live."""
        body = {
            "runnerId": runner_id,
            "leaseMs": lease_ms,
            "attemptId": attempt_id,
            "sessionId": session_id,
        }
        return await self._post(
            f"/api/v1/runs/{run_id}/claim", _present(body), Claim, may_repeat=bool(attempt_id)
        )

    async def claim_from_pool(
        self, runner_id: str, *, wait_ms: int, max_runs: int = 1, **more: Any
    ) -> list[Claim]:
        """Claim runs that wait for anybody; parked up to `wait_ms` while there is none.

        `more`: `leaseMs`, `attemptId`, `backendProfile`. Not repeated when the answer is lost: such
        a claim lapses with its lease.
        """
        body = _present({"runnerId": runner_id, "waitMs": wait_ms, "max": max_runs, **more})
        path, park = "/api/v1/claims", wait_ms / 1000
        answer = await self._call(path, body=body, park_seconds=park, may_repeat=False)
        return _decoded(answer, ClaimList).items

    async def append(
        self, run_id: str, claim_token: str, epoch: int, first: int, events: list[NewEvent]
    ) -> AppendAnswer:
        """Append events under a claim. Not repeated here: the sender keeps the order."""
        body = _EventsBody(epoch=epoch, first_producer_seq=first, events=events)
        path = f"/api/v1/runs/{run_id}/events"
        answer = await self._call(path, body=body, token=claim_token, may_repeat=False)
        return _decoded(answer, AppendAnswer)

    async def heartbeat(
        self, runner_id: str, session_token: str, runs: list[dict[str, Any]]
    ) -> HeartbeatAnswer:
        """Renew the leases of `runs` (`runId`, `epoch`, `activityMs`). Not repeated here."""
        path = f"/api/v1/runners/{runner_id}/heartbeat"
        answer = await self._call(path, body={"runs": runs}, token=session_token, may_repeat=False)
        return _decoded(answer, HeartbeatAnswer)

    async def release(self, run_id: str, claim_token: str, epoch: int, reason: str) -> None:
        """Give a run back; the same again is harmless."""
        body = {"epoch": epoch, "reason": reason}
        await self._call(f"/api/v1/runs/{run_id}/release", body=body, token=claim_token)

    # Below all calls

    async def _get(self, path: str, query: Mapping[str, Any], kind: type[T], park_ms: int = 0) -> T:
        answer = await self._call(path, query=_present(query), park_seconds=park_ms / 1000)
        return _decoded(answer, kind)

    async def _post(self, path: str, body: Any, kind: type[T], *, may_repeat: bool = True) -> T:
        return _decoded(await self._call(path, body=body, may_repeat=may_repeat), kind)

    async def _call(
        self,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        token: str | None = None,
        park_seconds: float = 0.0,
        may_repeat: bool = True,
    ) -> bytes:
        request = self._http.build_request(
            "GET" if body is None else "POST",
            path,
            params=query or None,
            content=None if body is None else msgspec.json.encode(body),
            headers=self._headers(token or self._token),
            timeout=httpx.Timeout(ANSWER_SECONDS + park_seconds, connect=CONNECT_SECONDS),
        )
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(TRIES)):
            try:
                return await self._once(request)
            except ManagerUnreachable:
                if not (may_repeat and left):
                    raise
            except ManagerError as error:
                if error.status != 503 or not (may_repeat and left):
                    raise
                pause = error.retry_after_seconds or pause
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause *= 3
        raise AssertionError("the last try returns or raises")

    async def _once(self, request: httpx.Request) -> bytes:
        try:
            response = await self._http.send(request)
        except httpx.HTTPError as error:
            where = f"{request.url.host}:{request.url.port}"
            raise ManagerUnreachable(
                f"No answer from the manager at {where}: {error or type(error).__name__}"
            ) from error
        if response.is_success:
            return response.content
        raise _problem(response.status_code, response.content)

    def _headers(self, token: str | None) -> dict[str, str]:
        headers = {"content-type": "application/json"}
        if (parent := traceparent()) is not None:
            headers["traceparent"] = parent
        return headers | {"authorization": f"Bearer {token}"} if token else headers


def _runner(runner_id: str) -> str:
    return f"/api/v1/runners/{quote(runner_id, safe='')}"


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _problem(status: int, content: bytes) -> ManagerError:
    try:
        problem: Any = msgspec.json.decode(content)
    except msgspec.DecodeError:
        problem = None
    return ManagerError(
        status, cast("dict[str, Any]", problem) if isinstance(problem, dict) else {}
    )


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise ManagerError(200, {"code": "answer-invalid", "detail": str(error)}) from error
