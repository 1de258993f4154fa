"""Turns as clients ask for them: start, steer, interrupt.

Checks that a request fits the thread's state, applies what sticks to the thread, and hands the work
to a turn loop in the thread's own task scope. Interrupting never waits for anything.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from treadle.domain.events import SettingsChanged, StatusChanged
from treadle.domain.items import ImageInput, TextInput, UserInput
from treadle.domain.policy import Settings
from treadle.domain.turns import Turn, TurnStatus
from treadle.engine.agent.turn_loop import TurnLoop
from treadle.engine.agent.turn_report import TurnJournal
from treadle.engine.agent.turn_state import Steer, TurnState
from treadle.engine.services.attachments import load_images
from treadle.engine.services.errors import InputTooLarge, Refused, ThreadNotLoaded
from treadle.engine.services.feed import Feed
from treadle.engine.services.loaded_thread import LoadedThread, RunningTurn
from treadle.engine.services.requests import Requests
from treadle.engine.services.threads import Threads
from treadle.kit.clock import Clock
from treadle.kit.mint import new_id

MAX_INPUT_CHARS = 1 << 20
"""Characters a turn's input may have (protocol 0.169.0)."""

END_SECONDS = 5.0
"""How long a new turn waits for the end of the last one to be stored."""

MakeJournal = Callable[[str], TurnJournal]
"""Makes the journal of a turn that works in the given folder."""


class Turns:
    """Starts, steers and interrupts turns."""

    def __init__(
        self,
        threads: Threads,
        feed: Feed,
        clock: Clock,
        journal: MakeJournal,
        requests: Requests,
    ) -> None:
        self._requests = requests
        self._threads = threads
        self._feed = feed
        self._clock = clock
        self._journal = journal
        self.draining = False

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
        """
        thread = await self._settled(thread_id)
        check_input(content)
        await self._apply(thread, changes)
        steer = Steer(content, client_id)
        if thread.running is not None:
            thread.running.state.steer(steer)
            thread.running.steered()
            return Turn(id=thread.running.state.turn_id)
        if self.draining:
            raise Refused("the server is draining and takes no new turns")
        state = TurnState(new_id(), int(self._clock.now() * 1000))
        thread.agent.asker = self._requests.asker(thread)
        loop = TurnLoop(
            thread.agent,
            state,
            self._journal(thread.agent.settings.cwd),
            load_images=load_images,
            on_status=lambda status: self._on_status(thread, status),
            output_schema=output_schema,
        )
        thread.running = RunningTurn(state, loop.interrupt, loop.cut_short)
        thread.scope.start(loop.run(steer), f"turn {state.turn_id}")
        return Turn(id=state.turn_id, root_turn_id=state.turn_id)

    async def _settled(self, thread_id: str) -> LoadedThread:
        """The loaded thread, once a turn that has ended already is stored and told as well."""
        thread = self._loaded(thread_id)
        if thread.running is not None and thread.running.state.over:
            await thread.scope.join(END_SECONDS)
            thread = self._loaded(thread_id)
        return thread

    def _loaded(self, thread_id: str) -> LoadedThread:
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

    def _on_status(self, thread: LoadedThread, status: TurnStatus) -> None:
        if status != "inProgress":
            thread.turn_over(failed=status == "failed")
            self._threads.turn_ended(thread)
        self._feed.publish(StatusChanged(thread_id=thread.thread_id, status=thread.status))

    def steer(
        self, thread_id: str, expected_turn_id: str, content: list[UserInput], client_id: str | None
    ) -> str:
        """Add input to the running turn; returns its id.

        Raises:
            ThreadNotLoaded: the thread is not in memory.
            Refused: no turn runs, or another than the expected one.
            InputTooLarge: the input is too long.
        """
        thread = self._loaded(thread_id)
        check_input(content)
        if thread.running is None or thread.running.state.over:
            raise Refused("no active turn to steer")
        if not expected_turn_id:
            raise Refused("expectedTurnId must not be empty")
        state = thread.running.state
        _check_expected(expected_turn_id, state.turn_id)
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
        running = self._loaded(thread_id).running
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
    mode = settings.collaboration_mode or {
        "mode": "default",
        "settings": {
            "model": settings.model,
            "reasoning_effort": settings.effort,
            "developer_instructions": None,
        },
    }
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
        "collaborationMode": mode,
    }
