"""One connection's side of the protocol: who it is, what it asked for, how to reach it."""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import msgspec

from treadle.appserver.greeting import Greeting
from treadle.kit.tasks import TaskScope
from treadle.wire.rpc.gate import Gate
from treadle.wire.rpc.peer import Peer

REQUEST_BOUND = 512
"""Requests of one connection that may be queued or running; further ones get the overload error."""


class Held(Protocol):
    """Something that one connection has open on the machine, such as commands or watches."""

    async def close(self) -> None:
        """End all of it, within a few seconds."""
        ...


H = TypeVar("H", bound=Held)


class Session(msgspec.Struct, eq=False):
    """A connection that speaks the protocol."""

    number: int
    peer: Peer
    scope: TaskScope
    gate: Gate = msgspec.field(default_factory=lambda: Gate(REQUEST_BOUND))
    initialized: bool = False
    experimental: bool = False
    opted_out: frozenset[str] = frozenset()
    originator: str = "treadle"
    user_agent: str = "treadle"
    lagged: int = 0
    """Deltas dropped since the client was last told."""
    held: dict[type, Held] = msgspec.field(default_factory=dict[type, Held])
    """What ends with the connection, one of a kind."""

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

    def holding(self, kind: type[H], make: Callable[[], H]) -> H:
        """The connection's own `kind`, made when first asked for and closed with it."""
        if kind not in self.held:
            self.held[kind] = make()
        return cast("H", self.held[kind])

    async def let_go(self) -> None:
        """End what the connection holds; idempotent."""
        while self.held:
            _, held = self.held.popitem()
            await held.close()
