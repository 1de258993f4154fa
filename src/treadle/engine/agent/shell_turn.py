"""A turn that carries out a command of the user's own; the model hears of it with the next one."""

from collections.abc import Awaitable, Callable
from typing import Any

from treadle.engine.agent.turn_life import Stop
from treadle.engine.agent.turn_loop import TurnLoop
from treadle.engine.agent.turn_parts import TurnParts

RunCommand = Callable[[], Awaitable[dict[str, Any]]]
"""Runs the command, item and all, and returns what the model is told of it."""


class ShellTurn:
    """The work of a turn that consists of one command."""

    def __init__(self, parts: TurnParts, run: RunCommand, loop: TurnLoop) -> None:
        """Carry out `run`; `loop` takes over when the user says something meanwhile."""
        self._state = parts.state
        self._report = parts.report
        self._run = run
        self._loop = loop
        self._conversing = False

    def cut_short(self) -> None:
        """Input has joined the turn: it waits for the command, or cuts the answer short."""
        self._loop.cut_short()

    def prepare(self) -> None:
        """Nothing to record before the command."""

    def open(self) -> None:
        """No input."""

    async def carry_out(self) -> None:
        """Run the command to its end; converse when there is something to talk about."""
        self._report.keep(await self._run())
        if self._state.response_ended(end_turn=None) == "sample":
            self._conversing = True
            await self._loop.take_over()

    async def stop(self, why: Stop) -> None:
        """A command was stopped by the cancel itself; a conversation is told."""
        if self._conversing or self._state.steers:
            await self._loop.stop(why)
