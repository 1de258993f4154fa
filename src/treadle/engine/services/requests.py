"""The broker of questions: registers them, tells of them, and settles each exactly once.

A turn asks and waits here; an answer comes from above by the question's number, and the first one
settles it. Otherwise the deadline does, a rule for when nobody is there, or the end of the turn.
What may be answered after a restart is in the thread's log before anybody hears of it, and so is
the answer before anything is done about it. Keeps the thread's status in step. Knows no client.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Callable

import msgspec

from treadle.domain.approvals import (
    Asked,
    Default,
    Settled,
    Settler,
    WaitingTurn,
    asked_record,
    bound,
    outlives,
    settled_record,
)
from treadle.domain.events import RequestRaised, RequestResolved, StatusChanged, Warned
from treadle.domain.questions import (
    ANSWERS,
    WAITING,
    Answer,
    CommandAnswer,
    CommandQuestion,
    ElicitationQuestion,
    FileAnswer,
    FileQuestion,
    PermissionQuestion,
    Question,
)
from treadle.domain.threads import ActiveFlag
from treadle.engine.services.feed import Feed
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.store.thread_store import StoreError
from treadle.engine.tools.tool import NotAnswered
from treadle.kit.clock import Clock

logger = logging.getLogger(__name__)

FAILED = "approval request failed"
"""What a model is told when an answer was an error or made no sense (0.169.0)."""

UNATTENDED_SECONDS = 0.5
"""How long a question that nobody can answer waits for somebody to come back."""

_NOUNS: dict[type[Question], str] = {
    CommandQuestion: "a command",
    ElicitationQuestion: "a question of an MCP server",
    PermissionQuestion: "a request for permissions",
}

NOBODY = "no client is connected that could answer"
ALONE = "this run is unattended"


class Deadline(msgspec.Struct, frozen=True):
    """How long an approval waits, and what then counts as its answer."""

    seconds: float
    decision: Default = "decline"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of questions that nobody answers.

    Attributes:
        deadline: how long people are waited for; None for as long as the turn lasts.
        waits_for_clients: whether questions that outlive a restart wait for a client to come
            when none is connected; else the default counts as the answer at once.
        alone: whether no client ever answers, though some may watch.
        default: what counts as the answer when nobody can be waited for.
    """

    deadline: Deadline | None = None
    waits_for_clients: bool = True
    alone: bool = False
    default: Default = "decline"


class OpenQuestion(msgspec.Struct, eq=False):
    """One question that is not settled."""

    asked: Asked
    thread: LoadedThread
    answer: "asyncio.Future[Answer]"
    lasting: bool
    """Whether it is in the log."""
    timers: list[asyncio.TimerHandle] = msgspec.field(default_factory=list[asyncio.TimerHandle])

    @property
    def question(self) -> Question:
        """What is asked."""
        return self.asked.question


class Requests:
    """All open questions of one engine."""

    def __init__(self, feed: Feed, clock: Clock, patience: Patience | None = None) -> None:
        """Tell of questions through `feed`; `patience` says how long they wait."""
        self._feed = feed
        self._clock = clock
        self._patience = patience or Patience()
        # Numbers of different lives of a server must differ, as questions outlive it: they begin at
        # the time, in units that no server asks faster than, and fit what JavaScript counts with.
        begin = int(clock.now() * 1000) * 1000 + int.from_bytes(os.urandom(2)) % 1000
        self._numbers = itertools.count(begin)
        self._open: dict[int, OpenQuestion] = {}
        self._left: dict[tuple[str, str], OpenQuestion] = {}
        """By thread and item: questions of an earlier process that the turn asks again soon."""
        self.watched: Callable[[str], bool] = lambda _thread_id: True
        """Whether anybody could answer for a thread."""

    def asker(self, thread: LoadedThread) -> "ThreadAsker":
        """The port through which the turns of a thread ask."""
        return ThreadAsker(self, thread)

    # ------------------------------------------------------------------ asking

    async def ask(self, thread: LoadedThread, question: Question) -> Answer:
        """Wait for the answer; a cancel takes the question back. Raises NotAnswered."""
        question = bound(question)
        entry = self._recalled(thread, question) or await self._put(thread, question)
        try:
            answer = await entry.answer
        except NotAnswered:
            await self._store(entry)
            raise
        except BaseException:
            # Mostly a cancel: the turn is ending and tells its own status; only the question is
            # taken back. After an answer there is nothing left to take back.
            self._take_back(entry)
            if thread.running is None:
                self._tell_status(thread)
            raise
        await self._store(entry)
        return answer

    async def _put(self, thread: LoadedThread, question: Question) -> OpenQuestion:
        deadline = self._patience.deadline
        # A client's own tool takes the time it takes; only people are waited for with a limit.
        limited = deadline is not None and type(question) in WAITING
        asked = Asked(
            request_id=next(self._numbers),
            question=question,
            deadline_at=self._clock.now() + deadline.seconds if deadline and limited else None,
            default=deadline.decision if deadline and limited else self._patience.default,
        )
        entry = self._entry(asked, thread, lasting=outlives(question))
        if entry.lasting:
            thread.log.append([asked_record(asked, self._clock.now())])
            await self._store(entry)
        self._open_up(entry)
        return entry

    def _entry(self, asked: Asked, thread: LoadedThread, *, lasting: bool) -> OpenQuestion:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        return OpenQuestion(asked, thread, answer, lasting)

    def _open_up(self, entry: OpenQuestion) -> None:
        """Let it be answered, and tell of it."""
        self._open[entry.asked.request_id] = entry
        self._tell_status(entry.thread)
        self._feed.publish(
            RequestRaised(
                thread_id=entry.thread.thread_id,
                request_id=entry.asked.request_id,
                question=entry.question,
            )
        )
        if (at := entry.asked.deadline_at) is not None:
            self._later(entry, max(0.0, at - self._clock.now()), self._expired)
        if not self._attended(entry):
            grace = 0.0 if self._patience.alone else UNATTENDED_SECONDS
            self._later(entry, grace, self._unattended)

    def _attended(self, entry: OpenQuestion) -> bool:
        return not self._patience.alone and self.watched(entry.thread.thread_id)

    def _later(
        self, entry: OpenQuestion, seconds: float, deed: Callable[[OpenQuestion], None]
    ) -> None:
        entry.timers.append(asyncio.get_running_loop().call_later(seconds, deed, entry))

    async def _store(self, entry: OpenQuestion) -> None:
        if not entry.lasting:
            return
        try:
            await entry.thread.log.flush()
        except StoreError:
            logger.exception("a question of %s is not stored", entry.thread.thread_id)

    # ------------------------------------------------------------------ after a restart

    def recall(self, thread: LoadedThread, waiting: WaitingTurn) -> None:
        """Open the questions again that an earlier process left with a waiting turn."""
        for asked in list(thread.log.approvals.pending.values()):
            if asked.question.turn_id == waiting.turn_id:
                entry = self._entry(asked, thread, lasting=True)
                self._left[thread.thread_id, asked.question.item_id] = entry
                self._open_up(entry)

    def _recalled(self, thread: LoadedThread, question: Question) -> OpenQuestion | None:
        """The old question that a turn asks again, settled or not; None for a new one."""
        entry = self._left.pop((thread.thread_id, question.item_id), None)
        if entry is None or entry.question.effect == question.effect:
            return entry
        if not entry.answer.done():
            self._settle(entry, "turn", "what it was asked about is not what would happen now")
        return None

    def parks(self, thread: LoadedThread) -> bool:
        """Whether the running turn waits for nothing but answers that may come after a restart.

        Its questions are then forgotten here, and told by nobody: they stay in the log.
        """
        running = thread.running
        if running is None or running.state.steers or running.state.notes:
            return False
        mine = [entry for entry in self._of(thread) if entry.lasting and not entry.answer.done()]
        calls = running.state.open_calls.keys()
        if not calls or calls != {entry.question.item_id for entry in mine}:
            return False
        for entry in mine:
            self._close(entry)
        return True

    # ------------------------------------------------------------------ settling

    def answer(self, number: int, answer: Answer) -> bool:
        """Settle a question; False when it is settled already or the answer is of another kind."""
        entry = self._open.get(number)
        if entry is None or not isinstance(answer, ANSWERS[type(entry.question)]):
            return False
        self._settle(entry, "client", "answered by a client", answer)
        entry.answer.set_result(answer)
        return True

    def fail(self, number: int) -> bool:
        """Settle a question that got no usable answer; False when it is settled already."""
        entry = self._open.get(number)
        if entry is None:
            return False
        self._settle(entry, "client", "the answer was an error or made no sense")
        self._not_answered(entry, NotAnswered(FAILED))
        return True

    def declined(self, thread: LoadedThread, question: Question, reason: str) -> None:
        """Tell watchers of a question that the policy answered with no before it was put."""
        what = _NOUNS.get(type(question), "request")
        text = f"{what} was declined by policy: {reason}"
        self._feed.publish(Warned(thread_id=thread.thread_id, message=text))

    def unwatched(self, thread_id: str) -> None:
        """Nobody is left who could answer for a thread: settle soon what cannot wait."""
        for entry in self._open.values():
            if entry.thread.thread_id == thread_id:
                self._later(entry, UNATTENDED_SECONDS, self._unattended)

    def turn_over(self, thread: LoadedThread) -> None:
        """The thread's turn has ended: what it had open is open no more."""
        for key in [key for key in self._left if key[0] == thread.thread_id]:
            del self._left[key]
        for entry in self._of(thread):
            if entry.question.turn_id:
                self._take_back(entry)

    def _expired(self, entry: OpenQuestion) -> None:
        deadline = self._patience.deadline
        within = f" within {deadline.seconds:g} s" if deadline is not None else " in time"
        self._by_default(entry, "deadline", f"nobody answered{within}")

    def _unattended(self, entry: OpenQuestion) -> None:
        patience = self._patience
        waits = entry.lasting and patience.waits_for_clients and not patience.alone
        if not waits and not self._attended(entry):
            self._by_default(entry, "policy", ALONE if patience.alone else NOBODY)

    def _by_default(self, entry: OpenQuestion, by: Settler, reason: str) -> None:
        if entry.answer.done():
            return
        decision, answer = entry.asked.default, None
        if decision != "decline" and isinstance(entry.question, CommandQuestion):
            answer = CommandAnswer(decision=decision)
        elif decision != "decline" and isinstance(entry.question, FileQuestion):
            answer = FileAnswer(decision=decision)
        self._settle(entry, by, reason, answer)
        shown = decision if answer is not None else "decline"
        text = f"request {entry.asked.request_id} was settled without an answer ({shown}): {reason}"
        self._feed.publish(Warned(thread_id=entry.thread.thread_id, message=text))
        if answer is not None:
            entry.answer.set_result(answer)
        else:
            self._not_answered(entry, NotAnswered(reason, expired=True))

    def _not_answered(self, entry: OpenQuestion, why: NotAnswered) -> None:
        entry.answer.set_exception(why)
        entry.answer.exception()  # the turn may end before it asks again: that is no loss

    def _settle(
        self, entry: OpenQuestion, by: Settler, reason: str, answer: Answer | None = None
    ) -> None:
        if entry.lasting:
            settled = Settled(
                request_id=entry.asked.request_id,
                by=by,
                reason=reason,
                answer=msgspec.to_builtins(answer),
            )
            entry.thread.log.append([settled_record(settled, self._clock.now())])
        self._close(entry)
        self._resolved(entry)
        self._tell_status(entry.thread)

    def _take_back(self, entry: OpenQuestion) -> None:
        if entry.asked.request_id in self._open:
            self._close(entry)
            self._resolved(entry)

    def _close(self, entry: OpenQuestion) -> None:
        self._open.pop(entry.asked.request_id, None)
        for timer in entry.timers:
            timer.cancel()

    def _resolved(self, entry: OpenQuestion) -> None:
        self._feed.publish(
            RequestResolved(thread_id=entry.thread.thread_id, request_id=entry.asked.request_id)
        )

    # ------------------------------------------------------------------ looking

    def find(self, number: int) -> OpenQuestion | None:
        """The open question of that number."""
        return self._open.get(number)

    def all(self) -> list[OpenQuestion]:
        """Every open question, oldest first."""
        return list(self._open.values())

    def _of(self, thread: LoadedThread) -> list[OpenQuestion]:
        return [entry for entry in self._open.values() if entry.thread is thread]

    def _tell_status(self, thread: LoadedThread) -> None:
        flags: dict[ActiveFlag, None] = {}
        for entry in self._of(thread):
            flag = WAITING.get(type(entry.question))
            if flag is not None:
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

    def declined(self, question: Question, reason: str) -> None:
        """Tell of a question that was put to nobody (see `Asker.declined`)."""
        self._requests.declined(self._thread, question, reason)

    def end_turn(self) -> None:
        """Interrupt the running turn."""
        if self._thread.running is not None:
            self._thread.running.interrupt()
