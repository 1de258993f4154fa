"""The agent tools of a thread: offered where it may spawn, and bound to what it commands."""

from treadle.domain.agents import AgentState, depth_of
from treadle.domain.items import UserInput
from treadle.engine.services.agents import AgentHost
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.planning import ThreadPlan
from treadle.engine.tools.agent_port import AgentRefused, Spawned, SpawnOrder
from treadle.engine.tools.late_tools import LateTools
from treadle.engine.tools.tool import Tools


class AgentOffer:
    """Offers the agent tools to threads."""

    def __init__(self, host: AgentHost) -> None:
        """`host` runs the agents."""
        self._host = host

    def equip(self, thread: LoadedThread, plan: ThreadPlan) -> None:
        """Give a thread just loaded the agent tools, if it may spawn."""
        limits = plan.agents
        if limits is not None and depth_of(thread.created) < limits.max_depth:
            agent, others = thread.agent, thread.agent.tools
            commands = AgentsOf(self._host, thread.thread_id)

            def tools() -> Tools:
                from treadle.engine.tools.agent_tools import AgentTools

                return AgentTools(others, commands)

            agent.tools = LateTools(tools)


class AgentsOf:
    """The agents that one thread commands (the port of its tools)."""

    def __init__(self, host: AgentHost, thread_id: str) -> None:
        self._host = host
        self._thread_id = thread_id

    @property
    def _caller(self) -> LoadedThread:
        thread = self._host.thread(self._thread_id)
        if thread is None:
            raise AgentRefused("this thread is being closed")
        return thread

    async def spawn(self, order: SpawnOrder) -> Spawned:
        """Make an agent (see `Agents.spawn`)."""
        return await self._host.spawn(self._caller, order)

    def begin(self, agent_id: str, order: SpawnOrder) -> None:
        """Begin an agent's first turn (see `Agents.begin`)."""
        self._host.begin_turn(agent_id, order.content)

    async def send(self, agent_id: str, content: list[UserInput], *, interrupt: bool) -> AgentState:
        """Give an agent a message (see `Agents.send`)."""
        return await self._host.send(self._caller, agent_id, content, interrupt=interrupt)

    async def wait(self, agent_ids: list[str], seconds: float) -> dict[str, AgentState]:
        """Wait for an agent's end (see `Agents.wait`)."""
        return await self._host.wait(self._caller, agent_ids, seconds)

    async def close(self, agent_id: str) -> AgentState:
        """End an agent (see `Agents.close`)."""
        return await self._host.close(self._caller, agent_id)

    async def resume(self, agent_id: str) -> AgentState:
        """Open a closed agent again (see `Agents.resume`)."""
        return await self._host.resume(self._caller, agent_id)
