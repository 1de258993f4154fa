"""`GET /metrics`: the manager's metrics in Prometheus' text form.

What only the database knows (leases, the queue, how far streams lag) is read when asked for, within
a deadline; a database that does not answer shows as `treadle_database_up 0`, never as an error.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control.access import EVERYTHING
from treadle.control.db.repository import RunQuery
from treadle.control.faults import ControlFault, Forbidden, NotFound
from treadle.control.http.auth import LOOPBACK_NAMES
from treadle.control.http.exchange import Desk, desk_of
from treadle.control.http.problems import problem_of
from treadle.kit.clock import parse_iso

READ_SECONDS = 3.0
# Bounds the work of one scrape; the gauges stop growing there.
MAX_RUNS = 1000
MAX_STREAMS = 200
HELD_STATUSES = ("claimed", "running", "needs-input", "interrupting")


async def show_metrics(request: Request) -> Response:
    """`GET /metrics`."""
    desk = desk_of(request)
    try:
        await _admit(desk, request)
    except ControlFault as fault:
        return problem_of(fault)
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    desk.metrics.loop_late.set(desk.watch.late_seconds)
    try:
        async with asyncio.timeout(READ_SECONDS):
            await _read_gauges(desk)
        desk.metrics.database_up.set(1)
    except (ControlFault, TimeoutError):
        desk.metrics.database_up.set(0)
    body = generate_latest(desk.metrics.registry)
    return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _admit(desk: Desk, request: Request) -> None:
    """This machine scrapes without a token; others need one that sees all tenants."""
    caller = request.client.host if request.client else ""
    if caller in LOOPBACK_NAMES:
        desk.gate.admit_local(request)
    else:
        principal = await desk.gate.admit(request)
        if principal.scope != EVERYTHING:
            raise Forbidden("Metrics are of all tenants; use a token that is not of one.")


async def _read_gauges(desk: Desk) -> None:
    metrics, repository = desk.metrics, desk.repository
    held = 0
    for status in HELD_STATUSES:
        runs = await repository.list_runs(RunQuery(limit=MAX_RUNS, status=status))
        held += sum(run.lease_remaining_ms is not None for run in runs)
        if status == "needs-input":
            metrics.needs_input_runs.set(len(runs))
    metrics.live_leases.set(held)
    pending = await repository.list_runs(RunQuery(limit=MAX_RUNS, status="pending"))
    waiting = [parse_iso(run.updated_at) for run in pending if run.cmd_last > 0]
    metrics.waiting_runs.set(len(waiting))
    now = desk.clock.now()
    metrics.queue_age.set(max(0.0, now - min(waiting)) if waiting else 0)
    metrics.stream_lag.set(await _largest_lag(desk))


async def _largest_lag(desk: Desk) -> int:
    places = desk.metrics.places()[:MAX_STREAMS]
    last_seqs: dict[str, int] = {}
    for run_id in {place.run_id for place in places}:
        try:
            last_seqs[run_id] = (await desk.repository.read_progress(run_id)).last_seq
        except NotFound:
            continue
    lags = (last_seqs.get(place.run_id, 0) - place.after_seq for place in places)
    return max(0, *lags) if places else 0


ROUTES = [Route("/metrics", show_metrics, methods=["GET"])]
