"""Requests of ours that wait for an answer: to whom they were sent, and what the replies settle.

A request goes to every connection that watches its thread, under one number; the first valid answer
settles it. An error or nonsense settles it only when no other connection is left to answer, so that
a mere watcher cannot refuse for the user. Replies of connections that were not asked are nothing.
"""

import logging
from collections.abc import Callable, Iterable

import msgspec

from treadle.appserver.server_requests import as_request, read_answer
from treadle.appserver.session import Session
from treadle.domain.events import RequestRaised
from treadle.domain.questions import Answer, Question
from treadle.wire.protocol.jsonrpc import Response, encode_request

logger = logging.getLogger(__name__)

OnAnswer = Callable[[int, Answer | None], None]
"""Hears a question's number with its answer; None when there will be no usable one."""


class _Open(msgspec.Struct):
    thread_id: str
    question: Question
    frame: bytes
    asked: set[int] = msgspec.field(default_factory=set[int])
    """Numbers of the connections that can still answer."""


class OpenRequests:
    """The open requests of one server."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self.on_answer: OnAnswer = lambda _number, _answer: None

    def raised(self, event: RequestRaised, watchers: Iterable[Session]) -> None:
        """Put a question to everybody who watches its thread."""
        method, params = as_request(event.question)
        frame = encode_request(event.request_id, method, params)
        entry = self._open[event.request_id] = _Open(event.thread_id, event.question, frame)
        for session in watchers:
            _send(entry, session)

    def resolved(self, number: int) -> None:
        """A request is settled."""
        self._open.pop(number, None)

    def replay(self, session: Session, thread_id: str) -> None:
        """Put the open questions of a thread to a connection that joined it."""
        for entry in self._open.values():
            if entry.thread_id == thread_id:
                _send(entry, session)

    def left(self, session: Session, thread_id: str) -> None:
        """A connection watches a thread no more; what is open waits for others."""
        for entry in self._open.values():
            if entry.thread_id == thread_id:
                entry.asked.discard(session.number)

    def take(self, session: Session, response: Response) -> None:
        """Take a reply of a connection."""
        number = _number(response.raw_id)
        entry = self._open.get(number) if number is not None else None
        if number is None or entry is None or session.number not in entry.asked:
            logger.debug("a reply to nothing we ask: %r", response.raw_id)
            return
        answer = (
            None
            if response.raw_result is None
            else read_answer(entry.question, response.raw_result)
        )
        if answer is None:
            logger.warning("no usable answer to request %d from %d", number, session.number)
            entry.asked.discard(session.number)
            if entry.asked:
                return
        self.on_answer(number, answer)


def _send(entry: _Open, session: Session) -> None:
    if session.initialized:
        entry.asked.add(session.number)
        session.peer.send(entry.frame)


def _number(raw_id: bytes) -> int | None:
    try:
        return int(raw_id)
    except ValueError:
        return None
