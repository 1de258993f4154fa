"""The interface of all transports: frames in, frames out, in batches.

A frame is one JSON-RPC message without its framing. Batches matter: a stream of deltas costs one
system call per batch, not per delta. Below stand stdio, websocket and memory; above stands the
peer.
"""

from typing import Protocol


class ChannelClosed(Exception):
    """The other side is gone; nothing can be sent any more."""


class Channel(Protocol):
    """One bidirectional connection."""

    async def receive(self) -> list[bytes]:
        """Wait for frames; an empty list means the other side has ended its input.

        Raises:
            ChannelClosed: the connection broke.
        """
        ...

    async def send(self, frames: list[bytes]) -> None:
        """Send frames in order; returns when the transport has room for more.

        Raises:
            ChannelClosed: the connection broke.
        """
        ...

    async def close(self) -> None:
        """End the connection; idempotent."""
        ...
