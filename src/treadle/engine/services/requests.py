"""The broker of questions: registers them, tells of them, and settles each exactly once.

A turn asks and waits here; an answer comes from above by the question's number, and the first one
settles it. Without any, it waits until its deadline, where there is one, or until its turn ends.
Keeps the thread's status in step with what it waits for. Knows no client.
"""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Literal

from treadle.domain.events import RequestRaised, RequestResolved, StatusChanged
from treadle.domain.questions import (
    ANSWERS,
    WAITING,
    Answer,
    CommandAnswer,
    CommandQuestion,
    FileAnswer,
    FileQuestion,
    Question,
)
from treadle.domain.threads import ActiveFlag
from treadle.engine.services.feed import Feed
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.tools.tool import NotAnswered

FAILED = "approval request failed"
"""What a model is told when an answer was an error or made no sense (0.169.0)."""

Default = Literal["accept", "decline", "cancel"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long an approval waits, and what then counts as its answer."""

    seconds: float
    decision: Default = "decline"


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    number: int
    question: Question
    thread: LoadedThread
    answer: "asyncio.Future[Answer]"


class Requests:
    """All open questions of one engine."""

    def __init__(self, feed: Feed, deadline: Deadline | None = None) -> None:
        """Tell of questions through `feed`; with a `deadline`, none waits longer than that."""
        self._feed = feed
        self._deadline = deadline
        self._numbers = itertools.count()
        self._open: dict[int, _Open] = {}

    def asker(self, thread: LoadedThread) -> "ThreadAsker":
        """The port through which the turns of a thread ask."""
        return ThreadAsker(self, thread)

    async def ask(self, thread: LoadedThread, question: Question) -> Answer:
        """Wait for the answer; a cancel takes the question back. Raises NotAnswered."""
        entry = _Open(
            next(self._numbers), question, thread, asyncio.get_running_loop().create_future()
        )
        self._open[entry.number] = entry
        # A client's own tool takes the time it takes; only people are waited for with a limit.
        limited = self._deadline is not None and type(question) in WAITING
        seconds = self._deadline.seconds if self._deadline and limited else None
        try:
            self._tell_status(thread)
            self._feed.publish(
                RequestRaised(
                    thread_id=thread.thread_id, request_id=entry.number, question=question
                )
            )
            async with asyncio.timeout(seconds):
                return await entry.answer
        except TimeoutError:
            self._settle(entry)
            return self._by_default(question)
        except BaseException:
            # Mostly a cancel: the turn is ending and tells its own status; only the question is
            # taken back. After an answer there is nothing left to take back.
            if self._open.pop(entry.number, None) is not None:
                self._resolved(entry)
                if thread.running is None:
                    self._tell_status(thread)
            raise

    def _by_default(self, question: Question) -> Answer:
        assert self._deadline is not None
        decision = self._deadline.decision
        if decision != "decline" and isinstance(question, CommandQuestion):
            return CommandAnswer(decision=decision)
        if decision != "decline" and isinstance(question, FileQuestion):
            return FileAnswer(decision=decision)
        raise NotAnswered(f"nobody answered within {self._deadline.seconds:g} s", expired=True)

    def answer(self, number: int, answer: Answer) -> bool:
        """Settle a question; False when it is settled already or the answer is of another kind."""
        entry = self._open.get(number)
        if entry is None or not isinstance(answer, ANSWERS[type(entry.question)]):
            return False
        self._settle(entry)
        if not entry.answer.done():
            entry.answer.set_result(answer)
        return True

    def fail(self, number: int) -> bool:
        """Settle a question that got no usable answer; False when it is settled already."""
        entry = self._open.get(number)
        if entry is None:
            return False
        self._settle(entry)
        if not entry.answer.done():
            entry.answer.set_exception(NotAnswered(FAILED))
        return True

    def _settle(self, entry: _Open) -> None:
        del self._open[entry.number]
        self._resolved(entry)
        self._tell_status(entry.thread)

    def _resolved(self, entry: _Open) -> None:
        self._feed.publish(
            RequestResolved(thread_id=entry.thread.thread_id, request_id=entry.number)
        )

    def _tell_status(self, thread: LoadedThread) -> None:
        flags: dict[ActiveFlag, None] = {}
        for entry in self._open.values():
            flag = WAITING.get(type(entry.question))
            if entry.thread is thread and flag is not None:
                flags[flag] = None
        if thread.waiting_on(tuple(flags)):
            self._feed.publish(StatusChanged(thread_id=thread.thread_id, status=thread.status))


class ThreadAsker:
    """One thread's way to ask."""

    def __init__(self, requests: Requests, thread: LoadedThread) -> None:
        self._requests = requests
        self._thread = thread

    async def ask(self, question: Question) -> Answer:
        """Put a question and wait (see `Asker.ask`)."""
        return await self._requests.ask(self._thread, question)

    def end_turn(self) -> None:
        """Interrupt the running turn."""
        if self._thread.running is not None:
            self._thread.running.interrupt()
