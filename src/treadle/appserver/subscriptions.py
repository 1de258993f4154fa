"""Who hears what: sessions, the threads they watch, and the way of an event to their outboxes.

Each notification of a loaded thread carries its number in the thread as `seq`, and the last ones
are held for who missed them. A session subscribes to a thread by starting or resuming it. Broadcast
notifications go to every initialized session, all others to the thread's subscribers. A thread that
leaves memory takes its subscriptions along, so that a stale one never survives an archive.
"""

from collections.abc import Callable

from treadle.appserver.event_tail import EventTail, Told
from treadle.appserver.open_requests import OpenRequests
from treadle.appserver.projection import Projected, project, text_delta
from treadle.appserver.session import Session
from treadle.domain.events import (
    AgentJoined,
    RequestRaised,
    RequestResolved,
    StatusChanged,
    TextDelta,
    ThreadClosed,
    ThreadEvent,
    ThreadRested,
)
from treadle.domain.threads import NotLoaded
from treadle.kit.clock import Clock
from treadle.wire.protocol.jsonrpc import encode_notification


class Subscriptions:
    """All sessions of one server; listens to the engine's feed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[int, Session] = {}
        self._watchers: dict[str, dict[int, Session]] = {}
        self._tails: dict[str, EventTail] = {}
        self.requests = OpenRequests()
        self.on_unwatched: Callable[[str], None] = lambda _thread_id: None

    # ------------------------------------------------------------------ sessions

    def add(self, session: Session) -> None:
        """A connection came."""
        self._sessions[session.number] = session

    def remove(self, session: Session) -> None:
        """A connection went; threads that nobody watches now are reported."""
        self._sessions.pop(session.number, None)
        for thread_id in [t for t, who in self._watchers.items() if session.number in who]:
            if self.unsubscribe(session, thread_id):
                self.on_unwatched(thread_id)

    def subscribe(self, session: Session, thread_id: str) -> None:
        """From now on the session hears the thread."""
        self._watchers.setdefault(thread_id, {})[session.number] = session

    def subscribed(self, session: Session, thread_id: str) -> bool:
        """Whether the session hears the thread."""
        return session.number in self._watchers.get(thread_id, ())

    def unsubscribe(self, session: Session, thread_id: str) -> bool:
        """The session hears the thread no more; True when it was the last one."""
        watchers = self._watchers.get(thread_id)
        if watchers is None or watchers.pop(session.number, None) is None:
            return False
        self.requests.left(session, thread_id)
        if watchers:
            return False
        del self._watchers[thread_id]
        return True

    def watched(self, thread_id: str) -> bool:
        """Whether anybody hears the thread."""
        return thread_id in self._watchers

    # ------------------------------------------------------------------ events

    def hear(self, event: ThreadEvent, seq: int | None) -> None:
        """Send an event's notification to whom it concerns."""
        thread_id = event.thread_id
        if type(event) is TextDelta:
            self._send(text_delta(event), self._watchers.get(thread_id), thread_id, seq)
            return
        if isinstance(event, AgentJoined):
            self._watchers.setdefault(event.thread_id, {}).update(
                self._watchers.get(event.parent_id, {})
            )
            return
        if isinstance(event, ThreadRested):
            self._tails.pop(thread_id, None)
            return
        if isinstance(event, RequestRaised):
            watchers = self._watchers.get(thread_id, {})
            self.requests.raised(event, list(watchers.values()))
            return
        if isinstance(event, RequestResolved):
            self.requests.resolved(event.request_id)
        projected = project(event)
        whom = self._sessions if projected.broadcast else self._watchers.get(thread_id)
        self._send(projected, whom, thread_id, seq)
        gone = isinstance(event, StatusChanged) and isinstance(event.status, NotLoaded)
        if gone or isinstance(event, ThreadClosed):
            self._watchers.pop(thread_id, None)
            self._tails.pop(thread_id, None)

    def _send(
        self,
        projected: Projected,
        whom: dict[int, Session] | None,
        thread_id: str,
        seq: int | None,
    ) -> None:
        frame: bytes | None = None
        if seq is not None:
            frame = self._encode(projected, seq)
            told = Told(seq, projected.method, projected.broadcast, frame)
            self._tails.setdefault(thread_id, EventTail()).add(told)
        for session in whom.values() if whom else ():
            if not session.wants(projected.method):
                continue
            if frame is None:
                frame = self._encode(projected, None)
            if not session.peer.send(frame, droppable=projected.droppable):
                session.lagged += 1
            elif session.lagged and not projected.droppable:
                self._tell_lag(session)

    def _encode(self, projected: Projected, seq: int | None) -> bytes:
        now_ms = int(self._clock.now() * 1000)
        return encode_notification(projected.method, projected.params, now_ms, seq)

    # ------------------------------------------------------------------ catching up

    def held(self, thread_id: str, after: int) -> tuple[list[Told], int | None]:
        """Notifications still held with numbers above `after`, and the number all are above.

        The second one is None when nothing is held of the thread.
        """
        tail = self._tails.get(thread_id)
        return (tail.after(after), tail.floor) if tail is not None else ([], None)

    def catch_up(self, session: Session, thread_id: str, after: int) -> None:
        """Tell a session that joins what was told since its picture of the thread was made."""
        for told in self.held(thread_id, after)[0]:
            if not told.broadcast and session.wants(told.method):
                session.peer.send(told.frame)

    def _tell_lag(self, session: Session) -> None:
        skipped, session.lagged = session.lagged, 0
        text = (
            f"{skipped} deltas were dropped because this client reads too slowly; "
            "completed items carry the whole text"
        )
        if session.wants("warning"):
            params = {"threadId": None, "message": text, "skipped": skipped}
            now_ms = int(self._clock.now() * 1000)
            session.peer.send(encode_notification("warning", params, now_ms))

    def notify(self, session: Session, method: str, params: object) -> None:
        """A notification for one session alone."""
        if session.wants(method):
            now_ms = int(self._clock.now() * 1000)
            session.peer.send(encode_notification(method, params, now_ms))

    def notify_all(self, method: str, params: object) -> None:
        """A notification for every session that has shaken hands."""
        for session in self._sessions.values():
            self.notify(session, method, params)

    # ------------------------------------------------------------------ slow readers

    @property
    def has_room(self) -> bool:
        """Whether every session keeps up."""
        return all(session.peer.outbox.has_room for session in self._sessions.values())

    async def room(self) -> None:
        """Wait until every session keeps up."""
        for session in list(self._sessions.values()):
            await session.peer.outbox.room()
