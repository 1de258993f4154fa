"""The port to tools: what the model can call, and what a call may use while it runs.

A tool describes itself to the model, runs one call, and reports the items a person sees. It knows
neither the turn loop nor any client; whatever else it needs arrives in its context.
"""

from typing import Any, Protocol

import msgspec

from treadle.domain.items import ThreadItem
from treadle.domain.policy import Settings
from treadle.domain.questions import Answer, Question
from treadle.engine.sandbox.launch_plan import Sandbox
from treadle.kit.clock import Clock


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call as the model made it."""

    name: str
    call_id: str
    arguments: str
    """JSON text of a function call, or the free text of a custom tool call."""
    custom: bool = False
    namespace: str | None = None


class ToolOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back to the model; `content` replaces `text` when it has several parts."""

    text: str = ""
    content: list[dict[str, Any]] | None = None
    success: bool = True
    notes: tuple[str, ...] = ()
    """What the model is told besides, as developer messages after the output."""


class NotAnswered(Exception):
    """A question got no usable answer; the text says so to the model.

    Attributes:
        expired: whether its deadline passed; else what came was no valid answer.
    """

    def __init__(self, text: str, *, expired: bool = False) -> None:
        super().__init__(text)
        self.expired = expired


class Asker(Protocol):
    """Puts questions to whoever watches the thread."""

    async def ask(self, question: Question) -> Answer:
        """Wait for the answer, which is of the kind that the question wants.

        A cancel takes the question back.

        Raises:
            NotAnswered: there is no usable answer.
        """
        ...

    def declined(self, question: Question, reason: str) -> None:
        """Tell of a question that the policy answered with no, so that nobody is asked."""
        ...

    def end_turn(self) -> None:
        """Interrupt the turn that asks: the user cancelled instead of answering."""
        ...


class NobodyToAsk:
    """For turns that nobody watches: every question stays without an answer."""

    async def ask(self, question: Question) -> Answer:
        """Refuse at once."""
        del question
        raise NotAnswered("nobody can be asked here", expired=True)

    def declined(self, question: Question, reason: str) -> None:
        """Tell nobody."""

    def end_turn(self) -> None:
        """Never needed, as nobody cancels."""


class Reporter(Protocol):
    """Tells watchers about the items of one call, and keeps the finished ones."""

    def started(self, item: ThreadItem) -> None:
        """An item appeared."""
        ...

    def output(self, item_id: str, delta: str) -> None:
        """A running command said something."""
        ...

    def completed(self, item: ThreadItem) -> None:
        """The item is final; exactly once per started item."""
        ...

    def typed(self, item_id: str, process_id: str, text: str) -> None:
        """The agent typed into a running command, or (with no text) listened to it."""
        ...

    def diff_changed(self) -> None:
        """Files changed; the turn's diff is due to be told again."""
        ...

    def plan_updated(self, explanation: str | None, plan: list[dict[str, Any]]) -> None:
        """The agent's plan changed."""
        ...


class FileJournal(Protocol):
    """Remembers how files looked before the turn touched them, for the turn's diff."""

    def before_change(self, path: str) -> None:
        """Call before writing or removing `path` (absolute)."""
        ...


class ToolContext(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may use."""

    thread_id: str
    turn_id: str
    settings: Settings
    sandbox: Sandbox
    env: dict[str, str]
    """The environment commands start with, already filtered by policy."""
    clock: Clock
    reporter: Reporter
    journal: FileJournal
    asker: Asker = NobodyToAsk()


class Tool(Protocol):
    """Something the model can call."""

    @property
    def name(self) -> str:
        """The name the model calls it by."""
        ...

    @property
    def spec(self) -> dict[str, Any]:
        """Its description for the model, in the Responses API's `tools` form."""
        ...

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Carry out one call.

        Bad arguments and failures become an output the model can act on. On cancellation the tool
        leaves no process behind and completes the items it started, then re-raises.
        """
        ...


class Tools(Protocol):
    """The tools of one thread."""

    @property
    def specs(self) -> list[dict[str, Any]]:
        """How the model is told of them."""
        ...

    async def ready(self) -> None:
        """Wait, within limits, for tools on their way; awaited before a turn's requests."""
        ...

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Carry out one call; unknown tools and bad arguments become outputs too."""
        ...
