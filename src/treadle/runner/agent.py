"""The run's agent: a backend session that is opened when first needed and kept over turns.

Opening takes time and can be cut short; what goes wrong in it is the turn's failure. Owns which
thread the run has. Knows neither which commands there are nor the lease.
"""

import asyncio

from treadle.kit.clock import Clock
from treadle.kit.tasks import TaskScope
from treadle.runner.home import AgentHome
from treadle.runner.report import Reporter
from treadle.runner.session import Session, SessionFailed, open_session
from treadle.runner.setup import Setup


class Agent:
    """Make one per attempt; `close` ends the backend's whole tree."""

    def __init__(
        self,
        setup: Setup,
        reporter: Reporter,
        clock: Clock,
        tasks: TaskScope,
        thread_id: str | None,
    ) -> None:
        """Start nothing yet; without a `thread_id` the first session makes a thread."""
        self._setup = setup
        self._reporter = reporter
        self._clock = clock
        self._tasks = tasks
        self._opening: asyncio.Task[Session | SessionFailed] | None = None
        self.thread_id = thread_id
        self.session: Session | None = None

    def cut_short(self) -> None:
        """Give an opening up that is under way."""
        if self._opening is not None:
            self._opening.cancel()

    async def open(
        self, home: AgentHome, command_id: str, model: str | None, *, goes_on: bool
    ) -> Session | None:
        """The session with the run's thread; None when its opening was cut short.

        Args:
            home: the agent's home.
            command_id: the turn that needs it, for what is told.
            model: the model that the turn asks for, if it does.
            goes_on: whether a turn that waits in the thread is to be gone on with; else it is
                ended.

        Raises:
            SessionFailed: the backend cannot take the turn.
        """
        if self.session is not None and not self.session.backend.ended:
            return self.session
        await self.drop()
        work = self._make(home, command_id, model, goes_on)
        self._opening = self._tasks.start(work, "open")
        await asyncio.wait({self._opening})
        opening, self._opening = self._opening, None
        if opening.cancelled():
            return None
        made = opening.result()
        if isinstance(made, SessionFailed):
            raise made
        return made

    async def drop(self) -> None:
        """End the backend; the next turn gets a fresh one."""
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """End the backend, also one that is being opened."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        await self.drop()

    async def _make(
        self, home: AgentHome, command_id: str, model: str | None, goes_on: bool
    ) -> Session | SessionFailed:
        try:
            return await self._ready(home, command_id, model, goes_on)
        except SessionFailed as failed:
            return failed  # an expected end of this task, not one to be logged

    async def _ready(
        self, home: AgentHome, command_id: str, model: str | None, goes_on: bool
    ) -> Session:
        plan = self._setup.plan(home)
        for phase, facts in self._setup.announcements(home):
            self._reporter.status(phase, command_id=command_id, **facts)
        session = await open_session(plan, self._clock)
        try:
            if self.thread_id is None:
                self.thread_id = await session.start_thread(model)
                phase = "thread/start:completed"
            else:
                await session.resume_thread(self.thread_id, model)
                if session.waiting_turn and not goes_on:
                    await session.end_waiting_turn()
                phase = "thread/resume:completed"
        except BaseException:
            await session.close()
            raise
        self._reporter.status(phase, command_id=command_id, threadId=self.thread_id)
        self.session = session
        return session
