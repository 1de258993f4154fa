"""The questions of a run's backend: settled by the run's policy, or open until somebody answers.

A question that waits is told to the log and holds until an `answer` command, its deadline, the
backend's own word that it is over, or the end of the turn. The first of them settles it; an answer
that comes later is rejected. Owns ids and deadlines; what is asked and answered is `requests`.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from treadle.kit.clock import Clock, iso_millis
from treadle.runner.backend import Backend, BackendGone, ServerRequest
from treadle.runner.manager_types import Command
from treadle.runner.report import Reporter
from treadle.runner.requests import (
    ContentInvalid,
    Question,
    RequestPolicy,
    answer_alone,
    answer_to,
    question_of,
)

MAX_OPEN = 64
"""More questions than these at a time are settled by the policy at once."""
NOT_OPEN = "request-not-open: the request was settled before this answer came."

Close = Callable[[Command, str, str | None], None]


@dataclass(frozen=True, slots=True)
class _Open:
    request: ServerRequest
    backend: Backend
    question: Question
    command_id: str
    deadline: float


class Questions:
    """All questions of one attempt; ids are `EPOCH-NUMBER`, so no two of a run are the same."""

    def __init__(
        self, policy: RequestPolicy, epoch: int, reporter: Reporter, clock: Clock, close: Close
    ) -> None:
        """Settle by `policy`; `close` closes an answer command with a state and a message."""
        self._policy = policy
        self._epoch = epoch
        self._reporter = reporter
        self._clock = clock
        self._close = close
        self._numbers = itertools.count(1)
        self._open: dict[str, _Open] = {}

    @property
    def deadline(self) -> float | None:
        """When the next open question is settled by the policy; None when none is open."""
        return min((each.deadline for each in self._open.values()), default=None)

    def take(self, request: ServerRequest, backend: Backend, command_id: str) -> None:
        """Settle a server request at once, or open it."""
        question = question_of(request.method, request.params)
        if question is None:
            reply, decision = answer_alone(request.method, self._clock.now())
            _respond(backend, request, reply)
            self._tell_settled(command_id, None, request, decision=decision, by="runner")
            return
        request_id = f"{self._epoch}-{next(self._numbers)}"
        wait = self._policy.wait_seconds
        entry = _Open(request, backend, question, command_id, self._clock.monotonic() + wait)
        if not self._policy.is_attended or len(self._open) >= MAX_OPEN:
            self._settle(request_id, entry, question.settled_by(self._policy.default), "policy")
            return
        self._open[request_id] = entry
        self._reporter.status(
            "server-request-opened",
            command_id=command_id,
            requestId=request_id,
            kind=question.kind,
            method=request.method,
            summary=question.summary,
            decisions=list(question.decisions),
            request=question.details,
            expiresAt=iso_millis(self._clock.now() + wait),
        )

    def answer(self, command: Command) -> None:
        """Settle a question as an `answer` command says, or reject the command."""
        payload = command.payload
        request_id, decision = str(payload.get("requestId")), str(payload.get("decision"))
        entry = self._open.get(request_id)
        if entry is None:
            self._close(command, "rejected", NOT_OPEN)
            return
        if decision not in entry.question.decisions:
            offered = ", ".join(entry.question.decisions)
            self._close(command, "rejected", f"decision-not-offered: decide one of {offered}.")
            return
        try:
            self._settle(request_id, entry, decision, "answer", payload.get("content"), command.id)
        except ContentInvalid as error:
            self._close(command, "rejected", f"content-invalid: {error}")
            return
        self._close(command, "completed", None)

    def resolved(self, wire_id: object) -> None:
        """The backend says that it waits for this request no more."""
        for request_id, entry in list(self._open.items()):
            if entry.request.id == wire_id:
                self._withdraw(request_id, "backend")

    def pass_time(self) -> None:
        """Let the policy settle what has waited long enough."""
        now = self._clock.monotonic()
        for request_id, entry in list(self._open.items()):
            if now >= entry.deadline:
                decision = entry.question.settled_by(self._policy.default)
                self._settle(request_id, entry, decision, "deadline")

    def withdraw_all(self) -> None:
        """The turn is over: nothing waits any more."""
        for request_id in list(self._open):
            self._withdraw(request_id, "turn-end")

    def _withdraw(self, request_id: str, by: str) -> None:
        entry = self._open.pop(request_id)
        self._tell_settled(entry.command_id, request_id, entry.request, decision="withdrawn", by=by)

    def _settle(
        self,
        request_id: str,
        entry: _Open,
        decision: str,
        by: str,
        content: Any = None,
        answer_id: str | None = None,
    ) -> None:
        result = answer_to(entry.request.method, entry.request.params, decision, content)
        self._open.pop(request_id, None)
        _respond(entry.backend, entry.request, {"result": result})
        facts: dict[str, Any] = {"decision": decision, "by": by, "summary": entry.question.summary}
        if answer_id is not None:
            facts["answerCommandId"] = answer_id
        self._tell_settled(entry.command_id, request_id, entry.request, **facts)

    def _tell_settled(
        self, command_id: str, request_id: str | None, request: ServerRequest, **facts: Any
    ) -> None:
        if request_id is not None:
            facts["requestId"] = request_id
        self._reporter.status(
            "server-request-settled", command_id=command_id, method=request.method, **facts
        )


def _respond(backend: Backend, request: ServerRequest, reply: dict[str, Any]) -> None:
    try:
        backend.respond(request, reply)
    except BackendGone:
        return  # its end is on the way
