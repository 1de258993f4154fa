"""Makes the services of an engine that wait for somebody to ask for them.

The one place of their construction: each method loads what it makes, and nothing loads before.
"""

from typing import TYPE_CHECKING

from treadle.cli.wiring.mcp import McpWiring
from treadle.cli.wiring.sandboxes import Sandboxes
from treadle.config.skills import SkillBook
from treadle.config.store import ConfigStore
from treadle.engine.services.requests import Requests
from treadle.engine.services.threads import Threads
from treadle.engine.services.turns import Turns
from treadle.kit.clock import Clock

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
    from treadle.engine.services.thread_fork import Forks
    from treadle.engine.services.thread_life import ThreadLife


class LateServices:
    """How each is made; see its class for what it does."""

    def __init__(
        self,
        config: ConfigStore,
        skills: SkillBook,
        sandboxes: Sandboxes,
        mcp: McpWiring,
        clock: Clock,
    ) -> None:
        """Make services over these parts of one engine."""
        self._config = config
        self._skills = skills
        self._sandboxes = sandboxes
        self._mcp = mcp
        self._clock = clock

    def life(self, threads: Threads) -> "ThreadLife":
        """What is done to threads."""
        from treadle.engine.services.thread_life import make_thread_life

        return make_thread_life(threads)

    def special_turns(self, turns: Turns, forks: "Forks") -> "SpecialTurns":
        """Reviews, compactions and commands of users."""
        from treadle.engine.services.special_turns import SpecialTurns

        return SpecialTurns(turns, forks)

    def approvals(self, threads: Threads, requests: Requests) -> "Approvals":
        """Lists and answers of questions."""
        from treadle.engine.services.approvals import Approvals

        return Approvals(threads, requests)

    def mcp(self, threads: Threads, requests: Requests) -> "Mcp":
        """MCP servers, for clients."""
        from treadle.engine.services.mcp import Mcp

        return Mcp(threads, requests, self._mcp.for_client)

    def mcp_logins(self, mcp: "Mcp") -> "McpLoginService":
        """Logins at MCP servers."""
        from treadle.engine.services.mcp_login import McpLoginService

        return McpLoginService(mcp, self._mcp.logins())

    def accounts(self) -> "Accounts":
        """The login of the home folder."""
        from treadle.cli.wiring.account_service import StoredAccounts

        return StoredAccounts(self._config)

    def skills(self) -> "Skills":
        """Skills, as clients see and switch them."""
        from treadle.cli.wiring.skill_service import BookSkills

        return BookSkills(self._config, self._skills)

    def device_keys(self) -> "DeviceKeys":
        """Keys of this device."""
        from treadle.engine.services.device_keys import DeviceKeys

        return DeviceKeys(self._config.home / "device-keys", self._clock)

    def feedback(self, threads: Threads) -> "Feedback":
        """Archives of what users report."""
        from treadle.cli.wiring.feedback import make_feedback

        return make_feedback(self._config, threads, self._clock)

    def file_search(self) -> "FileSearch":
        """Searches for files by parts of their names."""
        from treadle.engine.services.file_search import FileSearch

        return FileSearch()

    def command_host(self) -> "CommandHost":
        """Where commands of clients run."""
        from treadle.cli.wiring.command_host import ConfiguredHost

        return ConfiguredHost(self._config, self._sandboxes)
