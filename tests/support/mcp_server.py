"""A real MCP server, made with the official package: a program over stdio or streamable HTTP.

python mcp_server.py                 over standard streams
python mcp_server.py http SECRET     over HTTP on a free port, which is printed; SECRET is its token
"""

import asyncio
import json
import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations

server = MCPServer("lab", version="1.2.3", instructions="Tools of the lab.")


@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b


@server.tool()
def fail() -> str:
    "Always fails."
    raise ValueError("kaboom")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def pid() -> int:
    "The server's process."
    return os.getpid()


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def variable(name: str) -> str:
    "A variable of the server's environment."
    return os.environ.get(name, "unset")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def count(ctx: Context, steps: int) -> str:
    "Count, telling of each step."
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step}")
    return "counted"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def flood(chars: int) -> str:
    "A long text."
    return "x" * chars


MEETING: dict[str, asyncio.Event] = {}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def meet(me: str, other: str) -> str:
    "Wait until the other one is here too."
    MEETING.setdefault(me, asyncio.Event()).set()
    async with asyncio.timeout(10):
        await MEETING.setdefault(other, asyncio.Event()).wait()
    return f"{me} met {other}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def sleep(seconds: float) -> str:
    "Sleep."
    await asyncio.sleep(seconds)
    return "rested"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def crash() -> str:
    "End the server in the middle of the call."
    os._exit(3)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def form(ctx: Context) -> str:
    "Ask the user for a name."
    name = {"type": "string", "pattern": ".+"}
    schema = {"title": "Person", "type": "object", "properties": {"name": name}}
    schema["required"] = ["name"]
    answer = await ctx.session.elicit_form("Your name?", schema, ctx.request_id)
    return json.dumps([answer.action, answer.content])


@server.resource("lab://hello", mime_type="text/plain")
def hello() -> str:
    return "hello there"


@server.resource("lab://greet/{who}")
def greet(who: str) -> str:
    return f"hi {who}"


def guarded(app: Any, secret: str) -> Any:
    """The app, for those who know the secret."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"").decode()
            if given != f"Bearer {secret}":
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await app(scope, receive, send)

    return serve


def run_http(secret: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    app = guarded(server.streamable_http_app(), secret)
    config = uvicorn.Config(app, log_level="error")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        run_http(sys.argv[2])
    else:
        server.run()
