"""Errors of the protocol: codes, and the exception that carries one to the peer.

The codes are those of the references (0.129.0, 0.169.0); note that -32601 means "not supported
here" and that an unknown method is -32600. Decides nothing about which exception becomes which
error: that is `rpc.errors`.
"""

from typing import Any

INVALID_REQUEST = -32600
UNSUPPORTED = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603
OVERLOADED = -32001


class RpcError(Exception):
    """An answer that is an error; raise it where a request cannot be served.

    Attributes:
        code: one of the codes above.
        message: what the caller is told, saying what it can do.
        data: further members of the error, None for none.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def invalid_request(message: str, data: Any = None) -> RpcError:
    """The caller did something wrong: bad shape, unknown id, wrong state."""
    return RpcError(INVALID_REQUEST, message, data)


def invalid_params(message: str, data: Any = None) -> RpcError:
    """Well-formed parameters that make no sense together."""
    return RpcError(INVALID_PARAMS, message, data)


def unsupported(message: str) -> RpcError:
    """This server, store or thread does not offer it."""
    return RpcError(UNSUPPORTED, message)


def overloaded() -> RpcError:
    """Too many requests are waiting; retry with backoff."""
    return RpcError(OVERLOADED, "Server overloaded; retry later.")
