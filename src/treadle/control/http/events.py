"""A run's log over HTTP: pages, the stream, and the fenced append."""

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from treadle.control.faults import EventsGone, InvalidRequest
from treadle.control.http.exchange import (
    Desk,
    answer,
    desk_of,
    for_client,
    for_runner,
    read_body,
    wait_seconds,
    while_connected,
    whole,
)
from treadle.control.http.metrics import Place
from treadle.control.records import MAX_EVENTS_PER_APPEND, AppendRequest

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_SEQ = 2**62
# Proxies close silent connections; most wait for 30 s or more.
COMMENT_SECONDS = 15.0


async def read_events(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}/events`."""
    reading = desk_of(request).log.events(
        request.path_params["run_id"],
        whole(request, "afterSeq", 0, (0, MAX_SEQ)),
        whole(request, "limit", DEFAULT_PAGE, (1, MAX_PAGE)),
        wait_seconds(request),
    )
    return answer(await while_connected(request, reading))


async def append_events(request: Request, token: str) -> Response:
    """`POST /api/v1/runs/{run_id}/events`."""
    body = await read_body(request, AppendRequest)
    if not 1 <= len(body.events) <= MAX_EVENTS_PER_APPEND:
        raise InvalidRequest(f"Send 1 to {MAX_EVENTS_PER_APPEND} events at once.", "$.events")
    if body.first_producer_seq < 1:
        raise InvalidRequest("Producer seqs start at 1.", "$.firstProducerSeq")
    run_id = request.path_params["run_id"]
    return answer(await desk_of(request).repository.append(run_id, token, body))


async def stream_events(request: Request) -> Response:
    """`GET /api/v1/runs/{run_id}/stream`."""
    desk = desk_of(request)
    run_id = request.path_params["run_id"]
    after_seq = whole(request, "afterSeq", 0, (0, MAX_SEQ))
    last_id = request.headers.get("last-event-id", "")
    if last_id.isascii() and last_id.isdigit() and len(last_id) < 19:
        after_seq = int(last_id)
    progress = await desk.repository.read_progress(run_id)
    if after_seq + 1 < progress.min_seq:
        raise EventsGone(progress.min_seq)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _frames(desk, run_id, after_seq), 200, headers, media_type="text/event-stream"
    )


async def _frames(desk: Desk, run_id: str, after_seq: int) -> AsyncIterator[bytes]:
    """The frames of one subscriber, which is counted while it is there."""
    with desk.metrics.follow(run_id, after_seq) as place:
        try:
            async for frame in _follow(desk, place):
                yield frame
        except EventsGone:  # a reader this late learns it when it comes back
            return


async def _follow(desk: Desk, place: Place) -> AsyncIterator[bytes]:
    """Events as frames until the run ends; ends without `end` when the manager stops."""
    run_id = place.run_id
    yield b"retry: 200\n\n"
    while not desk.log.closed:
        page = await desk.log.events(run_id, place.after_seq, MAX_PAGE, COMMENT_SECONDS)
        if page.items:
            yield b"".join(
                b"id: %d\ndata: %s\n\n" % (event.seq, msgspec.json.encode(event))
                for event in page.items
            )
            place.after_seq = page.items[-1].seq
        if page.terminal and place.after_seq >= page.last_seq:
            run = await desk.repository.read_run(run_id)
            end = {"status": run.status, "terminalStatus": run.terminal_status}
            yield b"event: end\ndata: %s\n\n" % msgspec.json.encode(end)
            return
        if not page.items:
            yield b": nothing new\n\n"


ROUTES = [
    Route("/api/v1/runs/{run_id}/events", for_client(read_events), methods=["GET"]),
    Route("/api/v1/runs/{run_id}/events", for_runner(append_events), methods=["POST"]),
    Route("/api/v1/runs/{run_id}/stream", for_client(stream_events), methods=["GET"]),
]
