"""Treadle: the durable home of agent threads.

The package's areas are importable, and promised to no one but the names listed here. They load when
first used, so that `import treadle` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from treadle.kit.version import VERSION as __version__

if TYPE_CHECKING:
    from treadle.appserver.embed import (
        Lagged,
        ServerNotification,
        ServerRequest,
        ServerStopped,
        WouldBlock,
    )
    from treadle.cli.wiring.in_process import InProcessOptions, InProcessServer
    from treadle.wire.protocol.errors import RpcError


_HOMES = {
    "InProcessOptions": "treadle.cli.wiring.in_process",
    "InProcessServer": "treadle.cli.wiring.in_process",
    "Lagged": "treadle.appserver.embed",
    "RpcError": "treadle.wire.protocol.errors",
    "ServerNotification": "treadle.appserver.embed",
    "ServerRequest": "treadle.appserver.embed",
    "ServerStopped": "treadle.appserver.embed",
    "WouldBlock": "treadle.appserver.embed",
}

__all__ = [
    "InProcessOptions",
    "InProcessServer",
    "Lagged",
    "RpcError",
    "ServerNotification",
    "ServerRequest",
    "ServerStopped",
    "WouldBlock",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'treadle' has no attribute {name!r}")
