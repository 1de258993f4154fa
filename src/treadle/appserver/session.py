"""One connection's side of the protocol: who it is, what it asked for, how to reach it."""

from dataclasses import dataclass, field

from treadle.appserver.greeting import Greeting
from treadle.kit.tasks import TaskScope
from treadle.wire.rpc.gate import Gate
from treadle.wire.rpc.peer import Peer

REQUEST_BOUND = 512
"""Requests of one connection that may be queued or running; further ones get the overload error."""


@dataclass(slots=True, eq=False)
class Session:
    """A connection that speaks the protocol."""

    number: int
    peer: Peer
    scope: TaskScope
    gate: Gate = field(default_factory=lambda: Gate(REQUEST_BOUND))
    initialized: bool = False
    experimental: bool = False
    opted_out: frozenset[str] = frozenset()
    originator: str = "treadle"
    user_agent: str = "treadle"
    lagged: int = 0
    """Deltas dropped since the client was last told."""

    def wants(self, method: str) -> bool:
        """Whether notifications of `method` go to this connection."""
        return self.initialized and method not in self.opted_out

    def greeted(self, greeting: Greeting) -> None:
        """The handshake is done."""
        self.initialized = True
        self.experimental = greeting.experimental
        self.opted_out = greeting.opted_out
        self.originator = greeting.originator
        self.user_agent = greeting.user_agent
