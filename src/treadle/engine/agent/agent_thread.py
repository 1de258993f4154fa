"""The state of a loaded thread that its turns work on.

One object per loaded thread, changed by its running turn alone (and by services between turns).
Holds the model's context in memory; the log behind it is the truth.
"""

from dataclasses import dataclass, field
from typing import Any

from treadle.domain.policy import Settings
from treadle.domain.turns import TokenUsage
from treadle.engine.agent.ports import Announcer, Log, Tools
from treadle.engine.agent.prompt import Surroundings
from treadle.engine.model.model_client import ModelClient
from treadle.engine.sandbox.launch_plan import Sandbox
from treadle.engine.tools.tool import Asker, NobodyToAsk
from treadle.kit.clock import Clock


@dataclass(slots=True)
class ModelTraits:
    """What the catalog knows of the model in use."""

    context_window: int | None = None
    """Usable tokens (the nominal window less a reserve)."""
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    parallel_tool_calls: bool = True


@dataclass(slots=True)
class AgentThread:
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
    model: ModelClient
    tools: Tools
    sandbox: Sandbox
    env: dict[str, str]
    clock: Clock
    asker: Asker = field(default_factory=NobodyToAsk)
    """Puts the tools' questions to whoever watches."""
    traits: ModelTraits = field(default_factory=ModelTraits)
    context: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    told: Settings | None = None
    """The settings that the model was last told of; None before the first turn."""
    usage: TokenUsage = field(default_factory=TokenUsage)
    window: int = 0
