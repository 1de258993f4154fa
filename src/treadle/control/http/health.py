"""Whether the manager lives and can work; open to everybody."""

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control.db.repository import RunQuery
from treadle.control.faults import ControlFault, DatabaseUnusable
from treadle.control.http.exchange import Desk, answer, desk_of
from treadle.control.http.problems import HttpFault, problem_of

logger = logging.getLogger(__name__)

DATABASE_SECONDS = 3.0


async def live(request: Request) -> Response:
    """`GET /health/live`: the event loop turns, and has done so of late."""
    stall = desk_of(request).watch.recent_stall()
    if stall:
        text = f"The event loop was blocked for {stall:.1f} s; restart the manager if it persists."
        return problem_of(HttpFault(503, "stalled", text))
    return answer({"status": "ok"})


async def ready(request: Request) -> Response:
    """`GET /health/ready`: the database answers, with the tables that we need."""
    desk = desk_of(request)
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            await _use_database(desk)
    except ControlFault as fault:
        return problem_of(fault)
    except TimeoutError:
        return problem_of(DatabaseUnusable("The database does not answer; look after it."))
    return answer(
        {
            "status": "ready",
            "schemaVersion": desk.repository.schema_version,
            "startedAt": desk.started_at,
        }
    )


async def _use_database(desk: Desk) -> None:
    """Read what every request reads; a table that is missing shows as a foreign error."""
    if desk.log.retiring:
        raise HttpFault(503, "stopping", "The manager is stopping.")
    try:
        await desk.repository.list_runs(RunQuery(limit=1))
    except ControlFault:
        raise
    except TimeoutError:
        raise
    except Exception as error:
        logger.exception("the database cannot be read")
        raise DatabaseUnusable("The database cannot be read; see the manager's log.") from error


ROUTES = [
    Route("/health/live", live, methods=["GET"]),
    Route("/health/ready", ready, methods=["GET"]),
]
