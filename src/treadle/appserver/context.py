"""What a handler gets: the server's services, the asking session, and a word for later."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.appserver.greeting import ServerFacts
from treadle.appserver.session import Session
from treadle.appserver.subscriptions import Subscriptions
from treadle.engine.services.agents import AgentHost
from treadle.engine.services.budgets import Budgets
from treadle.engine.services.config import ConfigService
from treadle.engine.services.requests import Requests
from treadle.engine.services.resting import Resting
from treadle.engine.services.thread_queue import Queues
from treadle.engine.services.threads import Threads
from treadle.engine.services.turns import Turns
from treadle.kit.late import Late

if TYPE_CHECKING:
    from treadle.engine.services.accounts import Accounts
    from treadle.engine.services.approvals import Approvals
    from treadle.engine.services.commands import CommandHost
    from treadle.engine.services.device_keys import DeviceKeys
    from treadle.engine.services.feedback import Feedback
    from treadle.engine.services.file_search import FileSearch
    from treadle.engine.services.mcp import Mcp
    from treadle.engine.services.mcp_login import McpLoginService
    from treadle.engine.services.skills import Skills
    from treadle.engine.services.special_turns import SpecialTurns
    from treadle.engine.services.thread_life import ThreadLife


class Services(msgspec.Struct, frozen=True):
    """What the handlers may ask, and facts about this server.

    What conversations need is there; the rest is made, and loaded, when somebody asks for it.
    """

    threads: Threads
    turns: Turns
    agents: AgentHost
    budgets: Budgets
    queues: Queues
    resting: Resting
    requests: Requests
    config: ConfigService
    subscriptions: Subscriptions
    life: "Late[ThreadLife]"
    special_turns: "Late[SpecialTurns]"
    approvals: "Late[Approvals]"
    mcp: "Late[Mcp]"
    mcp_logins: "Late[McpLoginService]"
    accounts: "Late[Accounts]"
    skills: "Late[Skills]"
    device_keys: "Late[DeviceKeys]"
    feedback: "Late[Feedback]"
    file_search: "Late[FileSearch]"
    command_host: "Late[CommandHost]"
    facts: ServerFacts
    installation_id: str
    host: str
    """The machine's name, as clients show it."""


class Context(msgspec.Struct, frozen=True):
    """One request's surroundings."""

    session: Session
    services: Services
    later: list[Callable[[], None]] = msgspec.field(default_factory=list[Callable[[], None]])

    def afterwards(self, deed: Callable[[], None]) -> None:
        """Do something once the answer is queued, so that its notifications come after it."""
        self.later.append(deed)


Handler = Callable[[Context, Any], Awaitable[Any]]
"""Serves one method: takes its decoded parameters, gives its result."""
