"""A runner's batch as rows of the log, as far as that takes no look at the run's state.

Most batches hold only events that cannot move the fold; those need no fold, no decoding beyond a
glance and no second thought. Whatever is in doubt is left to the journal, which says what is wrong.
"""

from typing import Any

import msgspec

from treadle.control.fold import moves_fold
from treadle.control.records import NewEvent
from treadle.control.rules import MANAGER_PHASES

FOLDED_TYPES = frozenset({"backend_status", "assistant_message", "error"})

# run_id, seq, epoch, producer_seq, type, command_id, at, payload: the columns of the log.
EventRow = tuple[str, int, int | None, int | None, str, str | None, str, str]


class _Glance(msgspec.Struct):
    """What decides whether a payload can move the fold; anything may stand there."""

    phase: Any = None
    source: Any = None


_glance_at = msgspec.json.Decoder(_Glance).decode


def plain_texts(events: list[NewEvent]) -> list[str] | None:
    """The payloads as texts to store; None when one of the events needs a closer look."""
    texts: list[str] = []
    for event in events:
        raw = bytes(event.payload)
        if raw[:1] != b"{" or (event.type in FOLDED_TYPES and not _is_plain(event.type, raw)):
            return None
        try:
            texts.append(raw.decode())
        except UnicodeDecodeError:
            return None
    return texts


def _is_plain(event_type: str, raw: bytes) -> bool:
    """Whether an event of a folded type only tells, and is a runner's to tell."""
    try:
        glance = _glance_at(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    if isinstance(glance.phase, str) and glance.phase in MANAGER_PHASES:
        return False
    return not moves_fold(event_type, {"phase": glance.phase, "source": glance.source})
