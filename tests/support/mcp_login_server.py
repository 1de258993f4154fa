"""An MCP server over HTTP that wants a login, and the authorization server beside it."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

TOOL = {"name": "ping", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}


class LoginServer:
    """Gives `first`, then `second` as its token; only the last one given opens the server."""

    def __init__(self, expires_in: int = 3600) -> None:
        self.expires_in = expires_in
        self.grants: list[dict[str, str]] = []
        """Forms that the token endpoint got."""
        self._token = ""

    async def __aenter__(self) -> "LoginServer":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    async def _serve(self, request: web.Request) -> web.Response:
        match request.path.split("/")[1]:
            case "mcp":
                return await self._speak(request)
            case ".well-known":
                return web.json_response(self._about(request.path))
            case "register":
                asked = await request.json()
                return web.json_response({**asked, "client_id": "registered"}, status=201)
            case "token":
                return await self._grant(request)
            case _:
                return web.Response(status=404)

    def _about(self, path: str) -> dict[str, Any]:
        if "oauth-protected-resource" in path:
            return {"resource": self.url, "authorization_servers": [self.base]}
        return {
            "issuer": self.base,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "registration_endpoint": f"{self.base}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }

    async def _grant(self, request: web.Request) -> web.Response:
        self.grants.append({key: str(value) for key, value in (await request.post()).items()})
        self._token = "first" if len(self.grants) == 1 else "second"
        return web.json_response(
            {
                "access_token": self._token,
                "token_type": "Bearer",
                "expires_in": self.expires_in,
                "refresh_token": "more",
            }
        )

    async def _speak(self, request: web.Request) -> web.Response:
        if not self._token or request.headers.get("Authorization") != f"Bearer {self._token}":
            where = f"{self.base}/.well-known/oauth-protected-resource"
            return web.Response(
                status=401, headers={"WWW-Authenticate": f'Bearer resource_metadata="{where}"'}
            )
        if request.method != "POST":
            return web.Response(status=405)
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "web", "version": "1"},
            },
            "tools/list": {"tools": [TOOL]},
            "tools/call": {"content": [{"type": "text", "text": "pong"}]},
        }
        result = results[message["method"]]
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


def query(url: str) -> dict[str, str]:
    """The members of an address's query."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
