"""Parameters and results of `thread/events/list`."""

from typing import Annotated

import msgspec

from treadle.domain.items import Shape
from treadle.wire.protocol.numbers import U32


class EventsListParams(Shape, kw_only=True):
    """Parameters of `thread/events/list`: a page begins behind `after_seq`."""

    thread_id: str
    after_seq: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: U32 | None = None


class EventGap(Shape, kw_only=True):
    """Numbers above `after_seq` and up to `until_seq` of which only kept events are told again.

    With `until_seq` below `after_seq` the numbers asked for were never given, or were given by a
    server that is gone: go on from `until_seq`.
    """

    after_seq: int
    until_seq: int


class EventsListResult(Shape, kw_only=True):
    """A page of notifications, oldest first, each as it was sent.

    `next_seq` is where the next page begins, null at the end; `last_seq` the last number given;
    `epoch` names the thread's stay in memory, null when it is not there.
    """

    data: list[msgspec.Raw]
    next_seq: int | None = None
    last_seq: int
    epoch: str | None = None
    gap: EventGap | None = None
