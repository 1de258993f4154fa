"""Starts turns of every kind: state, record keeper, what tools may use, and the turn's own task.

What carries turns out is loaded with the first one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from treadle.domain.approvals import WaitingTurn
from treadle.domain.events import StatusChanged
from treadle.domain.turns import TurnStatus
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.services.errors import Refused
from treadle.engine.services.feed import Feed
from treadle.engine.services.loaded_thread import LoadedThread, RunningTurn, TurnKind
from treadle.engine.services.requests import Requests
from treadle.engine.services.threads import Threads
from treadle.engine.tools.tool import ToolContext
from treadle.kit.clock import Clock
from treadle.kit.mint import new_id

if TYPE_CHECKING:
    from treadle.engine.agent.turn_life import Work
    from treadle.engine.agent.turn_parts import TurnParts
    from treadle.engine.agent.turn_report import TurnJournal

MakeJournal = Callable[[str], "TurnJournal"]
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
        threads.on_waiting = self.reopen
        threads.parks = requests.parks

    def launch(
        self, thread: LoadedThread, kind: TurnKind, make: "Callable[[TurnParts], Work]"
    ) -> RunningTurn:
        """Start a turn on an idle thread with the work that `make` gives.

        Raises:
            Refused: the server is draining.
        """
        if self.draining:
            raise Refused("the server is draining and takes no new turns")
        state = TurnState(new_id(), int(self._clock.now() * 1000))
        return self._start(thread, kind, state, make)

    def reopen(self, thread: LoadedThread, waiting: WaitingTurn) -> None:
        """Go on with a turn that an earlier process left waiting for answers.

        Its calls are made again as far as their questions, which are the old ones: nothing of them
        was carried out yet.
        """
        from treadle.engine.agent.tool_runs import tool_call
        from treadle.engine.services.regular_turn import regular_turn

        state = TurnState(waiting.turn_id, waiting.started_at * 1000)
        state.used_item_ids.update(waiting.item_ids)
        for call in filter(None, map(tool_call, waiting.calls)):
            state.call_made(call.call_id, custom=call.custom)
        self._start(
            thread,
            "regular",
            state,
            lambda parts: regular_turn(parts, None, waiting.output_schema, waiting.calls),
            waiting,
        )
        self._requests.recall(thread, waiting)

    def _start(
        self,
        thread: LoadedThread,
        kind: TurnKind,
        state: TurnState,
        make: "Callable[[TurnParts], Work]",
        waiting: WaitingTurn | None = None,
    ) -> RunningTurn:
        from treadle.engine.agent.turn_life import TurnLife
        from treadle.engine.agent.turn_parts import TurnParts
        from treadle.engine.agent.turn_report import TurnReport

        agent = thread.agent
        settings = (waiting.settings if waiting is not None else None) or agent.settings
        journal = self._journal(settings.cwd)
        report = TurnReport(agent, state.turn_id, journal)
        agent.asker = self._requests.asker(thread)
        tools = ToolContext(
            thread_id=agent.thread_id,
            turn_id=state.turn_id,
            settings=settings,
            sandbox=agent.sandbox,
            env=agent.env,
            clock=agent.clock,
            reporter=report,
            journal=journal,
            asker=agent.asker,
        )
        work = make(TurnParts(agent, state, report, journal, tools))
        life = TurnLife(
            agent,
            state,
            report,
            work,
            lambda status: self._on_status(thread, status),
            reopened=waiting is not None,
        )
        running = RunningTurn(
            state,
            life.interrupt,
            getattr(work, "cut_short", _nothing),
            life.park,
            life.give_up,
        )
        running.kind, running.tools = kind, tools
        thread.running = running
        thread.scope.start(life.run(), f"turn {state.turn_id}")
        return running

    def _on_status(self, thread: LoadedThread, status: TurnStatus) -> None:
        if status != "inProgress":
            self._requests.turn_over(thread)
            thread.turn_over(failed=status == "failed")
            self._threads.turn_ended(thread)
        self._feed.publish(StatusChanged(thread_id=thread.thread_id, status=thread.status))


def _nothing() -> None:
    """Work without an answer in flight has nothing to cut short."""
