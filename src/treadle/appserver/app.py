"""The app-server: sessions over channels, one engine behind them.

Puts dispatch, handlers and subscriptions together and runs connections. Which store, model or
sandbox there is was decided by whoever made the services.
"""

import itertools
import logging
from collections.abc import Mapping

from treadle.appserver.context import Handler, Services
from treadle.appserver.dispatch import Dispatch
from treadle.appserver.greeting import Greeting
from treadle.appserver.handlers import initialize, thread, turn
from treadle.appserver.session import Session
from treadle.domain.questions import Answer
from treadle.engine.services.feed import Feed
from treadle.kit.tasks import TaskScope
from treadle.wire.protocol.late_table import LateTable
from treadle.wire.rpc.lanes import Lanes
from treadle.wire.rpc.peer import OUTBOX_LIMIT_BYTES, Peer
from treadle.wire.transport.channel import Channel

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long requests received before end of input may take to be answered."""

_CONVERSATION: Mapping[str, Handler] = {
    "initialize": initialize.initialize,
    "thread/start": thread.start,
    "thread/resume": thread.resume,
    "thread/read": thread.read,
    "thread/list": thread.list_threads,
    "thread/loaded/list": thread.list_loaded,
    "thread/unsubscribe": thread.unsubscribe,
    "turn/start": turn.start,
    "turn/steer": turn.steer,
    "turn/interrupt": turn.interrupt,
    "turn/settings/update": turn.update_settings,
    "collaborationMode/list": turn.list_modes,
}


def _of_threads() -> Mapping[str, Handler]:
    from treadle.appserver.handlers.thread_table import THREAD_HANDLERS

    return THREAD_HANDLERS


def _of_the_host() -> Mapping[str, Handler]:
    from treadle.appserver.handlers.host_table import HOST_HANDLERS

    return HOST_HANDLERS


HANDLERS = LateTable(lambda: _CONVERSATION, _of_threads, _of_the_host)
"""Every offered method of the table and what serves it."""


class AppServer:
    """Serves any number of connections."""

    def __init__(self, services: Services, feed: Feed) -> None:
        self._services = services
        self._dispatch = Dispatch(services, HANDLERS, Lanes())
        self._numbers = itertools.count(1)
        self._sessions: set[Session] = set()
        services.threads.watched = services.subscriptions.watched
        services.requests.watched = services.subscriptions.watched
        services.subscriptions.on_unwatched = self._unwatched
        services.subscriptions.requests.on_answer = self._answered
        feed.listen(services.subscriptions)

    def _unwatched(self, thread_id: str) -> None:
        self._services.requests.unwatched(thread_id)
        self._services.threads.unwatched(thread_id)
        self._services.resting.unwatched(thread_id)

    def _answered(self, number: int, answer: Answer | None) -> None:
        requests = self._services.requests
        settled = requests.fail(number) if answer is None else requests.answer(number, answer)
        if not settled:
            logger.debug("an answer to request %d came too late", number)

    @property
    def running_turns(self) -> int:
        """How many turns run now."""
        return self._services.threads.running_count

    def drain(self) -> None:
        """Refuse new turns from now on; everything else is still served."""
        self._services.turns.draining = True

    async def serve(
        self, channel: Channel, *, last: bool = False, greeting: Greeting | None = None
    ) -> None:
        """Run one connection until its peer ends it.

        Requests received before that are answered. With `last` the engine is shut down before the
        connection closes, so that the end of its turns can still be heard. `greeting` is that of a
        client whose `initialize` has been answered already.
        """
        number = next(self._numbers)
        peer = Peer(channel, limit_bytes=None if last else OUTBOX_LIMIT_BYTES)
        session = Session(number, peer, TaskScope(f"connection {number}"))
        self._sessions.add(session)
        self._services.subscriptions.add(session)
        if greeting is not None:
            session.greeted(greeting)
            initialize.tell_first(session, self._services)
        try:
            await peer.run(lambda message: self._dispatch.take(session, message))
            # A command of hours would keep its request open: what is held ends with the input.
            await session.let_go()
            await session.gate.drained(ANSWER_SECONDS)
        finally:
            session.gate.close()
            await session.scope.close(1.0)
            await session.let_go()
            if last:
                await self.shutdown()
            self._services.subscriptions.remove(session)
            self._sessions.discard(session)
            await peer.close()

    async def shutdown(self) -> None:
        """Interrupt what runs and close all threads; idempotent, bounded."""
        if (search := self._services.file_search.made) is not None:
            await search.close()
        await self._services.threads.shutdown()
