"""Turns as clients ask for them: start, steer, interrupt.

Checks that a request fits the thread's state, applies what sticks to the thread, and hands the work
to a turn loop in the thread's own task scope. Interrupting never waits for anything.
"""

from typing import Any

import msgspec

from treadle.domain.events import SettingsChanged
from treadle.domain.items import ImageInput, TextInput, UserInput
from treadle.domain.policy import Settings
from treadle.domain.records import SettingsApplied
from treadle.domain.turns import Turn
from treadle.engine.agent.turn_state import Steer
from treadle.engine.services.errors import (
    InputTooLarge,
    NotSteerable,
    Refused,
    ThreadNotLoaded,
    TurnInTheWay,
)
from treadle.engine.services.feed import Feed
from treadle.engine.services.loaded_thread import LoadedThread, TurnKind
from treadle.engine.services.threads import Threads
from treadle.engine.services.turn_launch import TurnLauncher
from treadle.kit.clock import Clock

MAX_INPUT_CHARS = 1 << 20
"""Characters a turn's input may have (protocol 0.169.0)."""

END_SECONDS = 5.0
"""How long a new turn waits for the end of the last one to be stored."""

_CLOSED: tuple[TurnKind, ...] = ("compact", "review")
"""Kinds of turns that take no input."""


class Turns:
    """Starts, steers and interrupts turns."""

    def __init__(
        self,
        threads: Threads,
        feed: Feed,
        clock: Clock,
        launcher: TurnLauncher,
    ) -> None:
        self._threads = threads
        self._feed = feed
        self._clock = clock
        self.launcher = launcher

    @property
    def draining(self) -> bool:
        """Whether new turns are refused, since the server is about to end."""
        return self.launcher.draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self.launcher.draining = draining

    async def start(
        self,
        thread_id: str,
        content: list[UserInput],
        *,
        changes: dict[str, Any],
        client_id: str | None = None,
        output_schema: Any = None,
    ) -> Turn:
        """Begin a turn, or join the one that runs (as 0.169.0), and return it.

        Args:
            thread_id: a loaded thread.
            content: the user's input; may be empty.
            changes: fields of `Settings` that stick to the thread from this turn on.
            client_id: the client's own id of the user message.
            output_schema: JSON schema of the final message.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            InputTooLarge: the input is too long.
            Refused: the server is draining, or an image is remote.
            TurnInTheWay: a compaction or a review runs.
        """
        thread = await self.settled(thread_id)
        check_input(content)
        await self._apply(thread, changes)
        return self.deliver(thread_id, Steer(content, client_id), output_schema)

    def deliver(self, thread_id: str, steer: Steer, output_schema: Any = None) -> Turn:
        """Begin a turn with this input, or join the one that runs; raises as `start`."""
        thread = self.loaded(thread_id)
        if thread.running is not None:
            if thread.running.kind in _CLOSED:
                raise TurnInTheWay(thread.running.kind)
            thread.running.state.steer(steer)
            thread.running.steered()
            return Turn(id=thread.running.state.turn_id)
        from treadle.engine.services.regular_turn import regular_turn

        running = self.launcher.launch(
            thread, "regular", lambda parts: regular_turn(parts, steer, output_schema)
        )
        state = running.state
        return Turn(id=state.turn_id, root_turn_id=state.turn_id)

    async def update_settings(self, thread_id: str, changes: dict[str, Any]) -> None:
        """Change the settings of the next turns, and seal them into a thread that has a log.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
        """
        thread = self.loaded(thread_id)
        before = thread.agent.settings
        await self._apply(thread, changes)
        settings = thread.agent.settings
        if settings != before and thread.log.materialized:
            thread.log.append([SettingsApplied(at=self._clock.now(), settings=settings)])
            await thread.log.flush()

    async def update_running(self, thread_id: str, turn_id: str, changes: dict[str, Any]) -> bool:
        """Change settings that the running turn's next request follows; whether it is that turn.

        They stick to the thread, as those of a turn's start do.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: the configuration does not allow it.
        """
        thread = self.loaded(thread_id)
        if not self._threads.plan_of(thread_id).switches_steps:
            raise Refused("turn settings updates require the step_model_switching feature")
        running = thread.running
        if running is None or running.state.over or running.state.turn_id != turn_id:
            return False
        await self.update_settings(thread_id, changes)
        return True

    async def settled(self, thread_id: str) -> LoadedThread:
        """The loaded thread, once a turn that has ended already is stored and told as well."""
        thread = self.loaded(thread_id)
        if thread.running is not None and thread.running.state.over:
            await thread.scope.join(END_SECONDS)
            thread = self.loaded(thread_id)
        return thread

    def loaded(self, thread_id: str) -> LoadedThread:
        """The loaded thread; raises ThreadNotLoaded."""
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ThreadNotLoaded(thread_id)
        return thread

    async def _apply(self, thread: LoadedThread, changes: dict[str, Any]) -> None:
        old = thread.agent.settings
        new = msgspec.structs.replace(old, **changes)
        if new == old:
            return
        await self._threads.apply(thread, new)
        self._feed.publish(SettingsChanged(thread_id=thread.thread_id, settings=wire_settings(new)))

    def steer(
        self, thread_id: str, expected_turn_id: str, content: list[UserInput], client_id: str | None
    ) -> str:
        """Add input to the running turn; returns its id.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: no turn runs, or another than the expected one.
            InputTooLarge: the input is too long.
        """
        thread = self.loaded(thread_id)
        check_input(content)
        if thread.running is None or thread.running.state.over:
            raise Refused("no active turn to steer")
        if not expected_turn_id:
            raise Refused("expectedTurnId must not be empty")
        state = thread.running.state
        _check_expected(expected_turn_id, state.turn_id)
        if thread.running.kind in _CLOSED:
            raise NotSteerable(thread.running.kind)
        state.steer(Steer(content, client_id))
        thread.running.steered()
        return state.turn_id

    def interrupt(self, thread_id: str, turn_id: str) -> None:
        """End the running turn as interrupted; it says so itself, soon.

        An empty `turn_id` means whatever runs, be it nothing.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: no turn runs, or another than the named one.
        """
        running = self.loaded(thread_id).running
        if running is None:
            if not turn_id:
                return
            raise Refused("no active turn to interrupt")
        if turn_id:
            _check_expected(turn_id, running.state.turn_id)
        running.interrupt()


def _check_expected(given: str, actual: str) -> None:
    if given != actual:
        raise Refused(f"expected active turn id {given} but found {actual}")


def check_input(content: list[UserInput]) -> None:
    """Refuse input that is too long (InputTooLarge) or not inline (Refused)."""
    chars = sum(len(part.text) for part in content if isinstance(part, TextInput))
    if chars > MAX_INPUT_CHARS:
        raise InputTooLarge(MAX_INPUT_CHARS, chars)
    for part in content:
        if isinstance(part, ImageInput) and part.url.startswith(("http://", "https://")):
            raise Refused("remote image URLs are not supported; use an inline data URL instead")


def wire_settings(settings: Settings) -> dict[str, Any]:
    """Settings in the shape of `thread/settings/updated` (0.169.0)."""
    return {
        "model": settings.model,
        "modelProvider": settings.model_provider,
        "cwd": settings.cwd,
        "approvalPolicy": settings.approval_policy,
        "approvalsReviewer": settings.approvals_reviewer,
        "sandboxPolicy": msgspec.to_builtins(settings.sandbox),
        "effort": settings.effort,
        "summary": settings.summary,
        "serviceTier": settings.service_tier,
        "personality": settings.personality,
        "collaborationMode": settings.mode,
    }
