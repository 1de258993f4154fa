"""What the work of a turn is made of, whatever its kind."""

import msgspec

from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.agent.turn_report import TurnJournal, TurnReport
from treadle.engine.agent.turn_state import TurnState
from treadle.engine.tools.tool import ToolContext


class TurnParts(msgspec.Struct, frozen=True):
    """The parts of one turn."""

    thread: AgentThread
    state: TurnState
    report: TurnReport
    journal: TurnJournal
    tools: ToolContext
    """What tool calls may use."""
