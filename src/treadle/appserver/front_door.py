"""Greets the first client of a process before the server behind it is loaded.

Answers one well-formed `initialize` that comes first, and leaves everything else (other requests,
mistakes, what comes after) to the server: it gives back a channel that starts with the frames it
did not use. What a client sees is the same with and without it, only sooner.
"""

from treadle.appserver.greeting import Greeting, ServerFacts, greet
from treadle.wire.protocol import codec, jsonrpc
from treadle.wire.protocol.errors import RpcError
from treadle.wire.protocol.initialize import InitializeParams
from treadle.wire.transport.channel import Channel


class Continued:
    """A channel of which some frames were read already."""

    def __init__(self, channel: Channel, frames: list[bytes], *, ended: bool) -> None:
        self._channel = channel
        self._frames = frames
        self._ended = ended

    async def receive(self) -> list[bytes]:
        """The frames read before, then those that come."""
        frames, self._frames = self._frames, []
        if frames or self._ended:
            return frames
        return await self._channel.receive()

    async def send(self, frames: list[bytes]) -> None:
        """See `Channel.send`."""
        await self._channel.send(frames)

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._channel.close()


async def answer_the_door(
    channel: Channel, facts: ServerFacts
) -> tuple[Continued, Greeting | None]:
    """Greet the client if its first message is a good `initialize`; then hand the channel on."""
    frames = await channel.receive()
    if not frames:
        return Continued(channel, [], ended=True), None
    message = jsonrpc.decode(frames[0])
    if not isinstance(message, jsonrpc.Request) or message.method != "initialize":
        return Continued(channel, frames, ended=False), None
    try:
        params = codec.decode_params(message.raw_params, InitializeParams)
        greeting, result = greet(params, facts)
    except RpcError:
        return Continued(channel, frames, ended=False), None
    await channel.send([jsonrpc.encode_result(message.raw_id, result)])
    return Continued(channel, frames[1:], ended=False), greeting
