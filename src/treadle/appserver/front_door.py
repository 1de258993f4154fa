"""Greets the first client of a process before the server behind it is loaded.

Answers one well-formed `initialize` that comes first, and leaves everything else (other requests,
mistakes, what comes after) to the server, unread. What a client sees is the same with and without
it, only sooner: not even the event loop is loaded at this point.
"""

from treadle.appserver.greeting import Greeting, ServerFacts, greet
from treadle.wire.protocol import codec, jsonrpc
from treadle.wire.protocol.errors import RpcError
from treadle.wire.protocol.initialize import InitializeParams
from treadle.wire.transport.claimed import ClaimedStreams


def answer_the_door(streams: ClaimedStreams, facts: ServerFacts) -> Greeting | None:
    """Greet the client if its first message is a good `initialize`; None if the server has to.

    Raises:
        OSError: the client does not read.
    """
    line = streams.first_line()
    message = jsonrpc.decode(line) if line is not None else None
    if not isinstance(message, jsonrpc.Request) or message.method != "initialize":
        return None
    try:
        params = codec.decode_params(message.raw_params, InitializeParams)
        greeting, result = greet(params, facts)
    except RpcError:
        return None
    streams.drop_line()
    streams.write(jsonrpc.encode_result(message.raw_id, result) + b"\n")
    return greeting
