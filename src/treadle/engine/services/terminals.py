"""Background terminals: commands of a thread that outlived the call that started them."""

from treadle.engine.services.errors import ThreadNotLoaded
from treadle.engine.services.threads import Threads
from treadle.engine.tools.exec_sessions import ExecSession, ExecSessions


class Terminals:
    """Lists and ends the background terminals of threads in memory."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    def running(self, thread_id: str) -> list[ExecSession]:
        """Those that run, oldest first; raises ThreadNotLoaded."""
        sessions = self._sessions(thread_id)
        return sessions.background(thread_id) if sessions is not None else []

    async def terminate(self, thread_id: str, process_id: str) -> bool:
        """End one, with its whole tree; whether it ran. Raises ThreadNotLoaded."""
        known = {session.item.process_id for session in self.running(thread_id)}
        sessions = self._sessions(thread_id)
        if sessions is None or process_id not in known:
            return False
        return await sessions.end_one(thread_id, int(process_id))

    async def clean(self, thread_id: str) -> None:
        """End all of a thread; what a call still waits for goes on. Raises ThreadNotLoaded."""
        for session in self.running(thread_id):
            await self.terminate(thread_id, str(session.item.process_id))

    def _sessions(self, thread_id: str) -> ExecSessions | None:
        if self._threads.get(thread_id) is None:
            raise ThreadNotLoaded(thread_id)
        sessions = self._threads.plan_of(thread_id).sessions
        return sessions.made if sessions is not None else None
