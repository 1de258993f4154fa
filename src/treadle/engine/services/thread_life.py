"""What a host may do to threads besides conversing in them, put together.

Most processes need none of it; whoever makes it loads all of it.
"""

import msgspec

from treadle.engine.services.terminals import Terminals
from treadle.engine.services.thread_events import PastEvents
from treadle.engine.services.thread_family import Families
from treadle.engine.services.thread_fork import Forks
from treadle.engine.services.thread_goals import Goals
from treadle.engine.services.thread_history import Histories
from treadle.engine.services.thread_metadata import Metadata
from treadle.engine.services.thread_rewind import Rewinds
from treadle.engine.services.thread_search import Searches
from treadle.engine.services.threads import Threads


class ThreadLife(msgspec.Struct, frozen=True):
    """The services that act on threads of one engine."""

    events: PastEvents
    families: Families
    forks: Forks
    goals: Goals
    histories: Histories
    metadata: Metadata
    rewinds: Rewinds
    searches: Searches
    terminals: Terminals


def make_thread_life(threads: Threads) -> ThreadLife:
    """All services over these threads."""
    return ThreadLife(
        events=PastEvents(threads),
        families=Families(threads),
        forks=Forks(threads),
        goals=Goals(threads),
        histories=Histories(threads),
        metadata=Metadata(threads),
        rewinds=Rewinds(threads),
        searches=Searches(threads),
        terminals=Terminals(threads),
    )
