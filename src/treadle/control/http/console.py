"""Serves the web console: a few static files, without a build step and without other origins.

The files hold nothing secret, so no token is asked for them; the page asks for one and sends it
with every call. Knows nothing of runs: the page uses the public API like any client.
"""

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from treadle.control.http.problems import HttpFault, problem_of

FOLDER = Path(__file__).parents[1] / "console"
SCRIPTS = ("console.js", "api.js", "parts.js", "questions.js", "runners.js")
FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    **{name: (name, "text/javascript; charset=utf-8") for name in SCRIPTS},
    "console.css": ("console.css", "text/css; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def show_file(request: Request) -> Response:
    """`GET /console/{name}`."""
    known = FILES.get(request.path_params.get("name", ""))
    if known is None:
        return problem_of(HttpFault(404, "not-found", "The console has no such file."))
    name, media_type = known
    return Response(_read(name), 200, HEADERS, media_type)


async def redirect(request: Request) -> Response:
    """`GET /console`, and `GET /` for who opens the manager's address in a browser."""
    # Another page may stand at `/` one day, so a browser is not to remember this one for ever.
    status = 308 if request.url.path == "/console" else 307
    return RedirectResponse("/console/", status)


@cache
def _read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


ROUTES = [
    Route("/", redirect, methods=["GET"]),
    Route("/console", redirect, methods=["GET"]),
    Route("/console/", show_file, methods=["GET"]),
    Route("/console/{name}", show_file, methods=["GET"]),
]
