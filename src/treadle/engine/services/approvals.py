"""Approvals as clients look at them and answer them, by thread and number, over any connection.

The other way to answer besides replying to the request itself: it reaches threads that are not in
memory, it says what became of an answer, and the same answer again gets the same. Decides nothing
about what an answer does.
"""

from typing import Any

import msgspec

from treadle.domain.approvals import ApprovalFold, Asked, Settled, approvals_of
from treadle.domain.questions import Answer
from treadle.engine.services.errors import NotOpen, ThreadNotFound
from treadle.engine.services.planning import Overrides
from treadle.engine.services.requests import Requests
from treadle.engine.services.thread_opening import Client
from treadle.engine.services.threads import Threads


class Approval(msgspec.Struct, frozen=True):
    """A question and, once it is settled, how it ended."""

    asked: Asked
    settled: Settled | None = None


class Approvals:
    """The approvals of all threads of one engine."""

    def __init__(self, threads: Threads, requests: Requests) -> None:
        self._threads = threads
        self._requests = requests

    async def list(self, thread_id: str | None, *, settled: bool) -> list[Approval]:
        """Open questions, oldest first, before them the settled ones where these are wanted.

        Without a thread only what is open in threads in memory. Raises ThreadNotFound.
        """
        if thread_id is None:
            return [Approval(entry.asked) for entry in self._requests.all()]
        fold = await self._fold(thread_id)
        ended = [Approval(*pair) for pair in fold.settled.values()] if settled else []
        live = [e.asked for e in self._requests.all() if e.thread.thread_id == thread_id]
        loaded = self._threads.get(thread_id) is not None
        return [*ended, *(Approval(a) for a in (live if loaded else fold.pending.values()))]

    async def find(self, thread_id: str, number: int) -> Approval:
        """A question, open or settled.

        Raises:
            ThreadNotFound: there is no such thread.
            NotOpen: it never had a question of that number, or not in the log it has now.
        """
        entry = self._requests.find(number)
        if entry is not None and entry.thread.thread_id == thread_id:
            return Approval(entry.asked)
        fold = await self._fold(thread_id)
        if number in fold.settled:
            return Approval(*fold.settled[number])
        if number in fold.pending and self._threads.get(thread_id) is None:
            return Approval(fold.pending[number])
        raise NotOpen(number, "no such request is known for this thread")

    async def answer(self, thread_id: str, number: int, answer: Answer, client: Client) -> Approval:
        """Answer a question; the thread is loaded for it where it is not. Durable on return.

        An answer that was given before is confirmed, whoever gave it.

        Raises:
            NotOpen: it is settled in another way, or its turn did not wait any more.
            ThreadNotFound, ThreadIsArchived, WriterConflict, StorageFailed: see `Threads.resume`.
        """
        found = await self.find(thread_id, number)
        if found.settled is None and self._threads.get(thread_id) is None:
            await self._threads.resume(thread_id, Overrides(), client)
        if found.settled is None and self._requests.answer(number, answer):
            loaded = self._threads.get(thread_id)
            if loaded is not None:
                await loaded.log.flush()
            found = await self.find(thread_id, number)
        return self._same(found, number, answer)

    def _same(self, found: Approval, number: int, answer: Answer) -> Approval:
        settled = found.settled
        if settled is None:
            raise NotOpen(number, "it takes no answer of this kind, or its turn waits no more")
        if settled.by != "client" or settled.answer != msgspec.to_builtins(answer):
            raise NotOpen(number, f"it is settled: {settled.reason}", _shown(settled))
        return found

    async def _fold(self, thread_id: str) -> ApprovalFold:
        loaded = self._threads.get(thread_id)
        if loaded is not None:
            return loaded.log.approvals
        records = await self._threads.records(thread_id)
        if not records:
            raise ThreadNotFound(thread_id)
        return approvals_of(records)


def _shown(settled: Settled) -> dict[str, Any]:
    return {"by": settled.by, "reason": settled.reason, "answer": settled.answer}
