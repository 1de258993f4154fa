"""Turns that are no conversation with the user: compactions, reviews, the user's own commands.

What carries them out is loaded with the first one: most servers never see any.
"""

from typing import TYPE_CHECKING

import msgspec

from treadle.domain.reviews import ReviewTarget
from treadle.domain.turns import Turn
from treadle.engine.agent.turn_parts import TurnParts
from treadle.engine.agent.turn_state import Steer, TurnOver
from treadle.engine.services.errors import Refused, TurnInTheWay
from treadle.engine.services.loaded_thread import LoadedThread, RunningTurn
from treadle.engine.services.planning import Overrides
from treadle.engine.services.regular_turn import regular_turn
from treadle.engine.services.thread_fork import ForkRequest, Forks
from treadle.engine.services.threads import Client
from treadle.engine.services.turns import Turns

if TYPE_CHECKING:
    from treadle.engine.agent.shell_turn import ShellTurn
    from treadle.engine.tools.user_shell import UserCommand

_STOP_SECONDS = 5.0


class StartedReview(msgspec.Struct, frozen=True):
    """A review that runs, and the thread it runs on."""

    turn: Turn
    thread: LoadedThread
    label: str


class SpecialTurns:
    """Starts compactions, reviews and commands of users."""

    def __init__(self, turns: Turns, forks: Forks) -> None:
        self._turns = turns
        self._forks = forks

    async def compact(self, thread_id: str) -> str:
        """Start a turn that compacts the context; returns its id.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: a turn runs, or the server is draining.
        """
        from treadle.engine.agent.compact_turn import CompactTurn

        thread = await self._turns.settled(thread_id)
        _check_idle(thread, "compact the context")
        running = self._turns.launcher.launch(thread, "compact", CompactTurn)
        return running.state.turn_id

    async def review(self, thread_id: str, target: ReviewTarget) -> StartedReview:
        """Start a review on a thread; a compaction that runs there is given up for it.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: another turn runs, the target is blank, or the server is draining.
        """
        from treadle.engine.agent.review_turn import ReviewTurn
        from treadle.engine.services.review_orders import make_order

        thread = await self._turns.settled(thread_id)
        agent = thread.agent
        order = await make_order(target, agent.settings.cwd, agent.env)
        if thread.running is not None and thread.running.kind == "compact":
            thread.running.interrupt()
            await thread.scope.join(_STOP_SECONDS)
        thread = self._turns.loaded(thread_id)
        _check_idle(thread, "start a review")
        running = self._turns.launcher.launch(
            thread, "review", lambda parts: ReviewTurn(parts, order)
        )
        turn = Turn(id=running.state.turn_id, root_turn_id=running.state.turn_id)
        return StartedReview(turn, thread, order.label)

    async def review_apart(
        self, thread_id: str, target: ReviewTarget, client: Client
    ) -> StartedReview:
        """Start a review on a fork of a thread; raises as `review` and `Forks.fork` do."""
        from treadle.engine.services.review_orders import make_order

        source = self._turns.loaded(thread_id)
        if source.ephemeral or not source.log.materialized:
            raise Refused(
                "cannot start a detached review: the thread has nothing stored to fork from; "
                "review inline, or run a turn first"
            )
        # A blank target is refused before anything is made for it.
        await make_order(target, source.agent.settings.cwd, source.agent.env)
        fork = ForkRequest(thread_id=thread_id, overrides=Overrides(), client=client)
        opened = await self._forks.fork(fork)
        return await self.review(opened.thread.thread_id, target)

    async def shell_command(self, thread_id: str, script: str, timeout_ms: int | None) -> None:
        """Run a command of the user: as a turn of its own, or within the one that runs.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: the command is blank, its time limit negative, or the server is draining.
            TurnInTheWay: a compaction or a review runs.
        """
        from treadle.engine.tools.user_shell import DEFAULT_TIMEOUT_MS, UserCommand

        if not script.strip():
            raise Refused("command must not be empty")
        if timeout_ms is not None and timeout_ms < 0:
            raise Refused("timeoutMs must not be negative")
        thread = await self._turns.settled(thread_id)
        limit_ms = DEFAULT_TIMEOUT_MS if timeout_ms is None else timeout_ms
        command = UserCommand(script, thread.agent.shell, limit_ms)
        running = thread.running
        if running is None:
            self._turns.launcher.launch(thread, "shell", lambda parts: _shell(parts, command))
        elif running.kind in ("compact", "review"):
            raise TurnInTheWay(running.kind)
        else:
            thread.scope.start(_join(thread, running, command), "user command")


def _check_idle(thread: LoadedThread, deed: str) -> None:
    if thread.running is not None:
        raise Refused(
            f"cannot {deed} while a turn is running: wait for its end, or interrupt it first"
        )


def _shell(parts: TurnParts, command: "UserCommand") -> "ShellTurn":
    from treadle.engine.agent.shell_turn import ShellTurn
    from treadle.engine.tools.user_shell import run_user_command

    loop = regular_turn(parts, Steer([]))
    return ShellTurn(parts, lambda: run_user_command(command, parts.tools), loop)


async def _join(thread: LoadedThread, running: RunningTurn, command: "UserCommand") -> None:
    """Run a command within a turn; the model hears of it with its next request."""
    from treadle.engine.tools.user_shell import run_user_command

    assert running.tools is not None
    note = await run_user_command(command, running.tools)
    # The turn may be over by now, and another one run.
    current = thread.running or running
    try:
        current.state.note(note)
    except TurnOver:
        thread.agent.keep(note, running.state.turn_id)
        await thread.log.flush()
