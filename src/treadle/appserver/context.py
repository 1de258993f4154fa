"""What a handler gets: the server's services, the asking session, and a word for later."""

from collections.abc import Callable

import msgspec

from treadle.appserver.greeting import ServerFacts
from treadle.appserver.session import Session
from treadle.appserver.subscriptions import Subscriptions
from treadle.engine.services.accounts import Accounts
from treadle.engine.services.approvals import Approvals
from treadle.engine.services.commands import CommandHost
from treadle.engine.services.config import ConfigService
from treadle.engine.services.device_keys import DeviceKeys
from treadle.engine.services.feedback import Feedback
from treadle.engine.services.file_search import FileSearch
from treadle.engine.services.mcp import Mcp
from treadle.engine.services.mcp_login import McpLoginService
from treadle.engine.services.requests import Requests
from treadle.engine.services.skills import Skills
from treadle.engine.services.special_turns import SpecialTurns
from treadle.engine.services.thread_life import ThreadLife
from treadle.engine.services.threads import Threads
from treadle.engine.services.turns import Turns


class Services(msgspec.Struct, frozen=True):
    """What the handlers may ask, and facts about this server."""

    threads: Threads
    turns: Turns
    special_turns: SpecialTurns
    life: ThreadLife
    requests: Requests
    approvals: Approvals
    mcp: Mcp
    mcp_logins: McpLoginService
    config: ConfigService
    accounts: Accounts
    skills: Skills
    subscriptions: Subscriptions
    device_keys: DeviceKeys
    feedback: Feedback
    file_search: FileSearch
    command_host: CommandHost
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
