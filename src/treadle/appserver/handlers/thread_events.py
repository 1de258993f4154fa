"""`thread/events/list`: what a client missed of a thread, from memory and from the log."""

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id
from treadle.appserver.projection import project
from treadle.domain.event_log import Recorded
from treadle.engine.services.errors import ThreadNotFound
from treadle.wire.protocol import thread_events as proto
from treadle.wire.protocol.errors import invalid_request
from treadle.wire.protocol.jsonrpc import encode_notification

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
PAGE_BYTES = 4 << 20
"""A page ends behind the event that reaches this."""

Numbered = tuple[int, bytes]


class _Found(msgspec.Struct, frozen=True):
    """Notifications with their numbers, the last number given, and below which some are gone."""

    told: Iterable[Numbered]
    last: int
    floor: int


async def list_events(context: Context, params: proto.EventsListParams) -> proto.EventsListResult:
    """A page of a thread's notifications after a number."""
    check_id(params.thread_id)
    thread_id, after = params.thread_id, params.after_seq
    epoch = context.services.threads.feed.epoch(thread_id)
    found = await _find(context, thread_id, after)
    limit = min(max(1, params.limit or DEFAULT_LIMIT), MAX_LIMIT)
    page, more = _page(found.told, limit)
    gap = None
    if after > found.last:
        gap = proto.EventGap(after_seq=after, until_seq=found.last)
    elif after < found.floor:
        gap = proto.EventGap(after_seq=after, until_seq=found.floor)
    return proto.EventsListResult(
        data=[msgspec.Raw(frame) for _, frame in page],
        next_seq=page[-1][0] if more else None,
        last_seq=found.last,
        epoch=epoch,
        gap=gap,
    )


async def _find(context: Context, thread_id: str, after: int) -> _Found:
    last = context.services.threads.feed.last(thread_id)
    if last is None:
        past, last = await _past(context, thread_id, after)
        return _Found(_encoded(past), last, floor=last)
    # What is held is taken before the log is read: what comes meanwhile is on the next page.
    held, floor = context.services.subscriptions.held(thread_id, after)
    recent = [(told.seq, told.frame) for told in held]
    floor = last if floor is None else floor
    if after >= floor:
        return _Found(recent, last, floor)
    past, _ = await _past(context, thread_id, after)
    older = _encoded(told for told in past if told.seq <= floor)
    return _Found(itertools.chain(older, recent), last, floor)


async def _past(context: Context, thread_id: str, after: int) -> tuple[list[Recorded], int]:
    try:
        return await context.services.life().events.after(thread_id, after)
    except ThreadNotFound:
        if context.services.threads.get(thread_id) is not None:
            return [], 0  # in memory, with nothing stored yet
        raise invalid_request(f"thread not loaded: {thread_id}") from None


def _encoded(past: Iterable[Recorded]) -> Iterator[Numbered]:
    for told in past:
        projected = project(told.event)
        at_ms = int(told.at * 1000)
        yield (
            told.seq,
            encode_notification(projected.method, projected.params, at_ms, told.seq),
        )


def _page(told: Iterable[Numbered], limit: int) -> tuple[list[Numbered], bool]:
    """The first notifications, as many as fit, and whether there are more."""
    page: list[Numbered] = []
    size = 0
    for numbered in told:
        if len(page) == limit or size >= PAGE_BYTES:
            return page, True
        page.append(numbered)
        size += len(numbered[1])
    return page, False
