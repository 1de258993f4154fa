"""Everything about a thread but its turns, put together for a host."""

import msgspec

from treadle.engine.services.agent_commands import AgentOffer
from treadle.engine.services.agents import AgentHost
from treadle.engine.services.budgets import Budgets
from treadle.engine.services.terminals import Terminals
from treadle.engine.services.thread_events import PastEvents
from treadle.engine.services.thread_family import Families
from treadle.engine.services.thread_fork import Forks
from treadle.engine.services.thread_goals import Goals
from treadle.engine.services.thread_history import Histories
from treadle.engine.services.thread_metadata import Metadata
from treadle.engine.services.thread_queue import Queues
from treadle.engine.services.thread_rewind import Rewinds
from treadle.engine.services.thread_search import Searches
from treadle.engine.services.threads import Threads
from treadle.engine.services.turns import Turns


class ThreadLife(msgspec.Struct, frozen=True):
    """The services that act on threads of one engine."""

    agents: AgentHost
    budgets: Budgets
    events: PastEvents
    families: Families
    forks: Forks
    goals: Goals
    histories: Histories
    metadata: Metadata
    queues: Queues
    rewinds: Rewinds
    searches: Searches
    terminals: Terminals


def make_thread_life(threads: Threads, turns: Turns) -> ThreadLife:
    """All services over these threads; some listen to the engine's feed from now on."""
    budgets = Budgets(threads)
    agents = AgentHost(threads, turns, budgets)
    # In this order, so that calls of the agent tools are counted as well.
    threads.equip += [AgentOffer(agents).equip, budgets.equip]
    return ThreadLife(
        agents=agents,
        budgets=budgets,
        events=PastEvents(threads),
        families=Families(threads),
        forks=Forks(threads),
        goals=Goals(threads),
        histories=Histories(threads),
        metadata=Metadata(threads),
        queues=Queues(threads, turns),
        rewinds=Rewinds(threads),
        searches=Searches(threads),
        terminals=Terminals(threads),
    )
