"""Whether the manager lives and can work; open to everybody."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.control.db.repository import RunQuery
from treadle.control.faults import ControlFault
from treadle.control.http.exchange import answer, desk_of
from treadle.control.http.problems import problem_of


async def live(request: Request) -> Response:
    """`GET /health/live`: the event loop turns."""
    del request
    return answer({"status": "ok"})


async def ready(request: Request) -> Response:
    """`GET /health/ready`: the database answers."""
    desk = desk_of(request)
    try:
        await desk.repository.list_runs(RunQuery(limit=1))
    except ControlFault as fault:
        return problem_of(fault)
    return answer(
        {
            "status": "ready",
            "schemaVersion": desk.repository.schema_version,
            "startedAt": desk.started_at,
        }
    )


ROUTES = [Route("/health/live", live), Route("/health/ready", ready)]
