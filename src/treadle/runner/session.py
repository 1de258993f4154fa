"""A backend with a thread: started, initialised, and given the run's thread or a new one.

Kept over the turns of a run as long as the backend is sound. A run that names a thread gets that
thread or fails: no replacement is ever started. Knows commands and turns not at all.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from treadle.domain.failures import Failure, FailureKind
from treadle.kit.clock import Clock
from treadle.runner.backend import (
    Backend,
    BackendGone,
    Exited,
    Garbage,
    Incoming,
    Notification,
    Reply,
    ServerRequest,
    SpawnError,
    members,
    start_backend,
)
from treadle.runner.classify import Origin, classify
from treadle.runner.requests import DECLINE, answer_alone, answer_to, question_of

Json = dict[str, Any]

MAX_EARLY = 1000
"""Messages kept while a thread is loaded."""
START_SECONDS = 60.0
"""For each step before the turn: a cold start may have to load a long thread."""


class SessionFailed(Exception):
    """The backend cannot take a turn; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        """Carry the failure."""
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start the backend and its thread."""

    argv: list[str]
    cwd: str | None
    env: Mapping[str, str]
    sandbox: str | None
    approval: str | None
    network: str | None
    has_session_volume: bool


class Session:
    """A backend that is ready for turns; make one with `open_session`."""

    def __init__(self, plan: Plan, backend: Backend, clock: Clock) -> None:
        """Wrap a backend that has not been spoken to."""
        self.plan = plan
        self.backend = backend
        self.thread_id = ""
        self.waiting_turn = ""
        """A turn of the thread that an earlier backend left waiting for answers, and this one goes
        on with."""
        self.early: list[Incoming] = []
        """What the backend said of that turn before the thread was ours."""
        self.total_usage: Json = {}
        self._clock = clock

    async def initialize(self) -> None:
        """Shake hands; raises SessionFailed."""
        info = {"name": "treadle-runner", "title": "Treadle runner", "version": "0.1.0"}
        await self._call("initialize", {"clientInfo": info}, FailureKind.BACKEND_SPAWN_FAILED)
        with contextlib.suppress(BackendGone):
            self.backend.notify("initialized")

    async def start_thread(self, model: str | None) -> str:
        """Start a new thread; its id. Raises SessionFailed."""
        params = self._settings(model)
        result = await self._call("thread/start", params, FailureKind.RUNNER_CRASHED)
        thread_id = _thread_id(result)
        if thread_id is None:
            raise _failed(FailureKind.BACKEND_RESPONSE_INVALID, "thread/start named no thread.")
        self.thread_id = thread_id
        return thread_id

    async def resume_thread(self, thread_id: str, model: str | None) -> None:
        """Load a thread that exists; raises SessionFailed, also when it does not."""
        params = {"threadId": thread_id, **self._settings(model)}
        result = await self._call("thread/resume", params, FailureKind.RUNNER_CRASHED)
        if _thread_id(result) not in {None, thread_id}:
            raise _failed(
                FailureKind.THREAD_RESUME_FAILED, "The backend resumed another thread than asked."
            )
        self.thread_id = thread_id
        self.waiting_turn = _open_turn(result)
        if not self.waiting_turn:
            early, self.early = self.early, []
            for message in early:
                if isinstance(message, ServerRequest):
                    self.refuse(message)

    async def end_waiting_turn(self) -> None:
        """End the turn that waits: nobody asked to go on with it. Raises SessionFailed."""
        params = {"threadId": self.thread_id, "turnId": self.waiting_turn}
        await self._call("turn/interrupt", params, FailureKind.RUNNER_CRASHED)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not self._ends_waiting_turn():
                    self._keep(await self._hear(FailureKind.RUNNER_CRASHED))
        except TimeoutError as error:
            text = "A turn that was left waiting does not end."
            raise _failed(FailureKind.BACKEND_TIMEOUT, text) from error
        self.waiting_turn, self.early = "", []

    def _ends_waiting_turn(self) -> bool:
        ends = (m.params for m in self.early if _is_notification(m, "turn/completed"))
        return any(members(params.get("turn")).get("id") == self.waiting_turn for params in ends)

    def turn_params(self, payload: Mapping[str, Any]) -> Json:
        """Parameters of `turn/start` for a turn command's payload."""
        text = {"type": "text", "text": str(payload.get("prompt") or "")}
        params: Json = {"threadId": self.thread_id, "input": [text]}
        for name in ("model", "effort", "outputSchema"):
            if payload.get(name) is not None:
                params[name] = payload[name]
        policy = self._sandbox_policy()
        if policy is not None:
            params["sandboxPolicy"] = policy
        return params

    def refuse(self, request: ServerRequest) -> None:
        """Decline what is asked while no turn is there to ask about."""
        question = question_of(request.method, request.params)
        if question is None:
            reply, _ = answer_alone(request.method, self._clock.now())
        else:
            decision = question.settled_by(DECLINE)
            reply = {"result": answer_to(request.method, request.params, decision, None)}
        with contextlib.suppress(BackendGone):
            self.backend.respond(request, reply)

    async def close(self) -> None:
        """End the backend's whole tree."""
        await self.backend.stop()

    def _settings(self, model: str | None) -> Json:
        wanted = {
            "cwd": self.plan.cwd,
            "approvalPolicy": self.plan.approval,
            "sandbox": self.plan.sandbox,
            "model": model,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def _sandbox_policy(self) -> Json | None:
        """A policy only where the mode does not say it all: it would hide the home's own."""
        mode, network = self.plan.sandbox, self.plan.network
        if mode == "danger-full-access":
            return {"type": "dangerFullAccess"}
        if mode != "workspace-write" or network not in {"enabled", "restricted", "none"}:
            return None
        return {"type": "workspaceWrite", "networkAccess": network == "enabled"}

    async def _call(self, method: str, params: Json, if_gone: FailureKind) -> Json:
        try:
            async with asyncio.timeout(START_SECONDS):
                reply = await self._reply(self._send(method, params), if_gone)
        except TimeoutError as error:
            raise _failed(FailureKind.BACKEND_TIMEOUT, f"{method} was not answered.") from error
        if reply.error is not None:
            origin = Origin.RESUME if method == "thread/resume" else Origin.RPC_ERROR
            volume = self.plan.has_session_volume
            raise SessionFailed(classify(origin, reply.error, has_session_volume=volume))
        return members(reply.result)

    def _send(self, method: str, params: Json) -> int | None:
        try:
            return self.backend.send(method, params)
        except BackendGone:
            return None  # why it is gone is told by the last message

    async def _reply(self, request_id: int | None, if_gone: FailureKind) -> Reply:
        while True:
            message = await self._hear(if_gone)
            if isinstance(message, Reply) and message.id == request_id:
                return message
            self._keep(message)

    async def _hear(self, if_gone: FailureKind) -> Incoming:
        message = await self.backend.receive()
        if isinstance(message, Garbage):
            raise _failed(FailureKind.BACKEND_JSON_PARSE_ERROR, message.reason)
        if isinstance(message, Exited):
            raise _failed(if_gone, message.reason)
        return message

    def _keep(self, message: Incoming) -> None:
        """Keep what a turn may need that goes on; the oldest is given up at the bound."""
        if isinstance(message, Reply):
            return
        if isinstance(message, ServerRequest) and not message.params.get("turnId"):
            self.refuse(message)  # of no turn: loading the thread itself may wait for the answer
            return
        self.early.append(message)
        if len(self.early) > MAX_EARLY:
            dropped = self.early.pop(0)
            if isinstance(dropped, ServerRequest):
                self.refuse(dropped)


async def open_session(plan: Plan, clock: Clock) -> Session:
    """Start a backend and shake hands; nothing is left running when this raises SessionFailed."""
    try:
        backend = await start_backend(plan.argv, cwd=plan.cwd, env=plan.env)
    except SpawnError as error:
        raise _failed(FailureKind.BACKEND_SPAWN_FAILED, f"The backend: {error}") from error
    session = Session(plan, backend, clock)
    try:
        await session.initialize()
    except BaseException:
        await session.close()
        raise
    return session


def _thread_id(result: Json) -> str | None:
    value = members(result.get("thread")).get("id")
    return value if isinstance(value, str) and value else None


def _open_turn(result: Json) -> str:
    """The id of a thread's last turn, if that is not over."""
    turns = members(result.get("thread")).get("turns")
    last = members(cast("list[Any]", turns)[-1]) if isinstance(turns, list) and turns else {}
    return str(last.get("id") or "") if last.get("status") == "inProgress" else ""


def _is_notification(message: Incoming, method: str) -> TypeGuard[Notification]:
    return isinstance(message, Notification) and message.method == method


def _failed(kind: FailureKind, message: str) -> SessionFailed:
    return SessionFailed(Failure(kind, message))
