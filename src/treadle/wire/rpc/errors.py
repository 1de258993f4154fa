"""The one place where an exception becomes an error of the wire.

Whoever raises chooses an `RpcError`, or an exception that a boundary above has registered a mapping
for. Everything else leaves as one fixed message with a log id, since texts of unexpected
exceptions may hold what a client must not see.
"""

import logging
import os
from collections.abc import Callable

from treadle.wire.protocol.errors import INTERNAL, RpcError

logger = logging.getLogger(__name__)

Translate = Callable[[Exception], RpcError | None]
"""Turns the exceptions a boundary knows into errors; None for those it does not."""


def to_wire(error: Exception, method: str, translate: Translate) -> RpcError:
    """What the peer may learn of `error`."""
    if isinstance(error, RpcError):
        return error
    known = translate(error)
    if known is not None:
        return known
    log_id = os.urandom(4).hex()
    logger.error("%s failed unexpectedly [%s]", method, log_id, exc_info=error)
    return RpcError(INTERNAL, f"internal error; the server's log has it under {log_id}")
