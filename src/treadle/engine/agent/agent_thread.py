"""The state of a loaded thread that its turns work on.

One object per loaded thread, changed by its running turn alone (and by services between turns).
Holds the model's context in memory; the log behind it is the truth.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.domain.policy import Settings
from treadle.domain.records import ModelItem
from treadle.domain.skills import Skill
from treadle.domain.turns import TokenUsage
from treadle.engine.agent.ports import Announcer, Log
from treadle.engine.agent.prompt import Surroundings
from treadle.engine.sandbox.launch_plan import Sandbox
from treadle.engine.tools.tool import Asker, NobodyToAsk, Tools
from treadle.kit.clock import Clock

if TYPE_CHECKING:
    from treadle.engine.model.model_client import ModelClient


class ModelTraits(msgspec.Struct):
    """What the catalog knows of the model in use."""

    context_window: int | None = None
    """Usable tokens (the nominal window less a reserve)."""
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    parallel_tool_calls: bool = True
    compact_at_tokens: int | None = None
    """Size of the context from which on it is compacted by itself; None for never."""
    compact_prompt: str | None = None
    """What the model is asked for a summary with, where the user has words of their own."""


class AgentThread(msgspec.Struct):
    """Everything a turn needs of its thread."""

    thread_id: str
    session_id: str
    originator: str
    user_agent: str
    settings: Settings
    base_instructions: str
    surroundings: Surroundings
    log: Log
    announcer: Announcer
    model: "ModelClient"
    tools: Tools
    sandbox: Sandbox
    env: dict[str, str]
    clock: Clock
    asker: Asker = msgspec.field(default_factory=NobodyToAsk)
    """Puts the tools' questions to whoever watches."""
    traits: ModelTraits = msgspec.field(default_factory=ModelTraits)
    known: list[dict[str, Any]] | Callable[[], list[dict[str, Any]]] = msgspec.field(
        default_factory=list[dict[str, Any]]
    )
    """The model's context, or what makes it: that of a long log waits until somebody looks."""
    told: Settings | None = None
    """The settings that the model was last told of; None before the first turn."""
    usage: TokenUsage = msgspec.field(default_factory=TokenUsage)
    context_tokens: int = 0
    """Size of the context as the last response, or an estimate after a compaction, has it."""
    overflow: bool = False
    """Whether the provider said that the context, as it is, does not fit."""
    window: int = 0
    """How often the context was compacted."""
    skills: tuple[Skill, ...] = ()
    shell: str = "/bin/sh"
    """The shell that the user's own commands run in."""
    home: str = ""
    """The home folder, below which generated images are kept; empty to keep none."""

    request_metadata: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Further members of the turn metadata that travel with its requests."""

    @property
    def context(self) -> list[dict[str, Any]]:
        """What the model knows, in order; turns change it in place."""
        if callable(self.known):
            self.known = self.known()
        return self.known

    @context.setter
    def context(self, items: list[dict[str, Any]]) -> None:
        self.known = items

    @property
    def is_full(self) -> bool:
        """Whether the context is due to be compacted before the model is asked again."""
        limit = self.traits.compact_at_tokens
        return limit is not None and self.context_tokens >= limit and bool(self.context)

    def keep(self, item: dict[str, Any], turn_id: str | None) -> None:
        """Add an item to the model's context, in memory and in the log."""
        self.context.append(item)
        self.log.append([ModelItem(at=self.clock.now(), item=item, turn_id=turn_id)])

    def overflowed(self) -> None:
        """The provider said that the context does not fit: it counts as full from now on."""
        limits = (self.traits.context_window, self.traits.compact_at_tokens, self.context_tokens)
        self.context_tokens = max(limit or 0 for limit in limits)
        self.overflow = True
