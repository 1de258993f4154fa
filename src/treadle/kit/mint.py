"""Fresh identifiers: version 7 UUIDs (RFC 9562), in the order of their creation."""

import os
import time

_last_millis = 0
_counter = 0

_POOL_BYTES = 1024
_pool = b""
"""Random bytes not used yet: the system is asked once for many ids."""


def _random_bits() -> int:
    global _pool  # noqa: PLW0603 - as for the counter
    if not _pool:
        _pool = os.urandom(_POOL_BYTES)
    taken, _pool = _pool[:8], _pool[8:]
    return int.from_bytes(taken, "big") & ((1 << 62) - 1)


def _forget() -> None:
    global _pool  # noqa: PLW0603 - as for the counter
    _pool = b""


os.register_at_fork(after_in_child=_forget)  # a child must not make its parent's ids


def new_id() -> str:
    """A new version 7 UUID; ids minted by one process sort in the order of their creation.

    Within one millisecond the twelve bits after the version count up (RFC 9562, method 1); a burst
    of more than 4096 borrows from the next millisecond.
    """
    global _last_millis, _counter  # noqa: PLW0603 - one counter per process is the point
    millis = max(time.time_ns() // 1_000_000, _last_millis)
    if millis == _last_millis:
        _counter += 1
        if _counter > 0xFFF:
            millis, _counter = millis + 1, 0
    else:
        _counter = 0
    _last_millis = millis
    value = (millis & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | _counter << 64
    value |= 0b10 << 62 | _random_bits()
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
