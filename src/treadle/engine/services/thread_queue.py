"""The inbox of a thread: messages sent while it is busy, one turn each, in order.

Kept in the thread's log, so that a restart loses none and says none twice. After a turn that ended
by itself the next message starts its own; after an interrupt the inbox waits until it is told to
go on. Listens to the feed for ends of turns.
"""

import logging
from typing import Any

from treadle.domain.events import InboxChanged, ThreadEvent, TurnFinished
from treadle.domain.inbox import MAX_SUBMISSIONS, Inbox, Submission, inbox_of, inbox_record
from treadle.domain.items import UserInput
from treadle.domain.turns import Turn
from treadle.engine.agent.turn_state import Steer
from treadle.engine.services.errors import Refused, StoreError, ThreadNotLoaded
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.threads import Threads
from treadle.engine.services.turns import Turns, check_input
from treadle.kit.mint import new_id

logger = logging.getLogger(__name__)


class Queues:
    """The inboxes of all threads."""

    def __init__(self, threads: Threads, turns: Turns) -> None:
        self._threads = threads
        self._turns = turns
        self._in_flight: dict[str, str] = {}
        """By thread: the message whose turn was started and has not said it yet."""
        threads.feed.listen(self)

    # ------------------------------------------------------------------ asking and changing

    async def waiting(self, thread_id: str) -> list[Submission]:
        """What waits, in order; raises ThreadNotFound."""
        loaded = self._threads.get(thread_id)
        if loaded is not None:
            inbox = loaded.log.inbox
        else:
            inbox = inbox_of(await self._threads.records(thread_id))
        return self._left(thread_id, inbox)

    async def add(
        self,
        thread_id: str,
        client_id: str,
        content: list[UserInput],
        metadata: dict[str, Any] | None,
    ) -> Submission:
        """Put a message at the end; on an idle thread its turn starts at once.

        Raises:
            ThreadNotFound: there is no such thread.
            Refused: there is no input, or the inbox is full. InputTooLarge: the input is too long.
        """
        _check(content)
        submission = Submission(
            id=new_id(),
            client_user_message_id=client_id,
            input=content,
            responsesapi_client_metadata=metadata,
        )
        if len(await self.waiting(thread_id)) >= MAX_SUBMISSIONS:
            raise Refused(f"the user-message queue holds at most {MAX_SUBMISSIONS} messages")
        await self._record(thread_id, add=submission)
        loaded = self._threads.get(thread_id)
        if loaded is not None:
            self._next(loaded)
        return submission

    async def update(
        self,
        thread_id: str,
        submission_id: str,
        content: list[UserInput],
        metadata: dict[str, Any] | None,
    ) -> Submission:
        """Change what a waiting message says; raises Refused when it does not wait."""
        _check(content)
        found = await self._find(thread_id, submission_id)
        changed = Submission(
            id=found.id,
            client_user_message_id=found.client_user_message_id,
            input=content,
            responsesapi_client_metadata=metadata,
        )
        await self._record(thread_id, update=changed)
        return changed

    async def delete(self, thread_id: str, submission_id: str) -> bool:
        """Take a waiting message away; whether it was there."""
        if all(each.id != submission_id for each in await self.waiting(thread_id)):
            return False
        await self._record(thread_id, delete=submission_id)
        return True

    async def reorder(self, thread_id: str, submission_ids: list[str]) -> None:
        """Put what waits in another order; raises Refused unless each is named once."""
        known = [each.id for each in await self.waiting(thread_id)]
        if sorted(known) != sorted(submission_ids):
            raise Refused("queuedSubmissionIds must name every queued submission exactly once")
        await self._record(thread_id, order=submission_ids)

    async def start(self, thread_id: str, submission_id: str | None) -> Turn:
        """Start the turn of the first message, or of the named one, and go on from there.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: a turn runs, nothing waits, or the server is draining.
        """
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ThreadNotLoaded(thread_id)
        if thread.running is not None:
            raise Refused("thread already has an active or pending turn")
        left = self._left(thread_id, thread.log.inbox)
        if not left:
            raise Refused("queue is empty")
        chosen = await self._find(thread_id, submission_id) if submission_id else left[0]
        if thread.log.inbox.paused:
            thread.log.append([inbox_record(self._threads.clock.now(), paused=False)])
        return self._deliver(thread, chosen)

    # ------------------------------------------------------------------ delivering

    def wake(self, thread_id: str) -> None:
        """Go on with what waits in a thread that was just loaded."""
        thread = self._threads.get(thread_id)
        if thread is not None:
            self._next(thread)

    def hear(self, event: ThreadEvent, seq: int | None) -> None:
        """A turn's end makes room for the next message, or stops them after an interrupt."""
        if type(event) is not TurnFinished:
            return
        undelivered = self._in_flight.pop(event.thread_id, None)
        thread = self._threads.get(event.thread_id)
        if thread is None or thread.closing or not thread.log.inbox.submissions:
            return
        stuck = undelivered is not None and thread.log.inbox.find(undelivered) is not None
        if event.turn.status == "interrupted" or stuck:
            thread.scope.start(self._pause(thread), "pause inbox")
        else:
            thread.scope.start(self._go_on(thread), "next of inbox")

    @property
    def has_room(self) -> bool:
        """Always: nothing is sent from here."""
        return True

    async def room(self) -> None:
        """Nothing to wait for."""

    async def _go_on(self, thread: LoadedThread) -> None:
        self._next(thread)

    async def _pause(self, thread: LoadedThread) -> None:
        try:
            thread.log.append([inbox_record(self._threads.clock.now(), paused=True)])
            await thread.log.flush()
        except StoreError:
            logger.exception("the inbox of %s could not be paused", thread.thread_id)

    def _next(self, thread: LoadedThread) -> None:
        """Start the first message's turn, if nothing is in the way."""
        inbox = thread.log.inbox
        free = thread.running is None and not thread.closing and not self._turns.draining
        if free and not inbox.paused and (left := self._left(thread.thread_id, inbox)):
            self._deliver(thread, left[0])

    def _deliver(self, thread: LoadedThread, submission: Submission) -> Turn:
        steer = Steer(submission.input, submission.client_user_message_id, submission.id)
        turn = self._turns.deliver(thread.thread_id, steer)
        self._in_flight[thread.thread_id] = submission.id
        self._changed(thread.thread_id)
        return turn

    def _left(self, thread_id: str, inbox: Inbox) -> list[Submission]:
        gone = self._in_flight.get(thread_id)
        return [each for each in inbox.submissions if each.id != gone]

    async def _find(self, thread_id: str, submission_id: str) -> Submission:
        for each in await self.waiting(thread_id):
            if each.id == submission_id:
                return each
        raise Refused(f"queued submission not found: {submission_id}")

    async def _record(self, thread_id: str, **change: Any) -> None:
        async with self._threads.log_of(thread_id) as log:
            log.append([inbox_record(self._threads.clock.now(), **change)])
        self._changed(thread_id)

    def _changed(self, thread_id: str) -> None:
        self._threads.feed.publish(InboxChanged(thread_id=thread_id))


def _check(content: list[UserInput]) -> None:
    if not content:
        raise Refused("only user input can be added to the user-message queue")
    check_input(content)
