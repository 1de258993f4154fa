"""Starts turns of every kind: state, record keeper, what tools may use, and the turn's own task."""

from collections.abc import Callable

from treadle.domain.events import StatusChanged
from treadle.domain.turns import TurnStatus
from treadle.engine.agent.turn_life import TurnLife, Work
from treadle.engine.agent.turn_parts import TurnParts
from treadle.engine.agent.turn_report import TurnJournal, TurnReport
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.services.errors import Refused
from treadle.engine.services.feed import Feed
from treadle.engine.services.loaded_thread import LoadedThread, RunningTurn, TurnKind
from treadle.engine.services.requests import Requests
from treadle.engine.services.threads import Threads
from treadle.engine.tools.tool import ToolContext
from treadle.kit.clock import Clock
from treadle.kit.mint import new_id

MakeJournal = Callable[[str], TurnJournal]
"""Makes the journal of a turn that works in the given folder."""


class TurnLauncher:
    """Starts turns."""

    def __init__(
        self,
        threads: Threads,
        feed: Feed,
        clock: Clock,
        journal: MakeJournal,
        requests: Requests,
    ) -> None:
        self._threads = threads
        self._feed = feed
        self._clock = clock
        self._journal = journal
        self._requests = requests
        self.draining = False

    def launch(
        self, thread: LoadedThread, kind: TurnKind, make: Callable[[TurnParts], Work]
    ) -> RunningTurn:
        """Start a turn on an idle thread with the work that `make` gives.

        Raises:
            Refused: the server is draining.
        """
        if self.draining:
            raise Refused("the server is draining and takes no new turns")
        agent = thread.agent
        state = TurnState(new_id(), int(self._clock.now() * 1000))
        journal = self._journal(agent.settings.cwd)
        report = TurnReport(agent, state.turn_id, journal)
        agent.asker = self._requests.asker(thread)
        tools = ToolContext(
            thread_id=agent.thread_id,
            turn_id=state.turn_id,
            settings=agent.settings,
            sandbox=agent.sandbox,
            env=agent.env,
            clock=agent.clock,
            reporter=report,
            journal=journal,
            asker=agent.asker,
        )
        work = make(TurnParts(agent, state, report, journal, tools))
        life = TurnLife(agent, state, report, work, lambda status: self._on_status(thread, status))
        running = RunningTurn(state, life.interrupt, getattr(work, "cut_short", _nothing))
        running.kind, running.tools = kind, tools
        thread.running = running
        thread.scope.start(life.run(), f"turn {state.turn_id}")
        return running

    def _on_status(self, thread: LoadedThread, status: TurnStatus) -> None:
        if status != "inProgress":
            thread.turn_over(failed=status == "failed")
            self._threads.turn_ended(thread)
        self._feed.publish(StatusChanged(thread_id=thread.thread_id, status=thread.status))


def _nothing() -> None:
    """Work without an answer in flight has nothing to cut short."""
