"""Logging in at MCP servers: the browser's way there and back, what is kept, and what fails."""

import asyncio
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.app_lab import AppLab, LabClient
from support.mcp_login_server import LoginServer, query
from treadle.wire.protocol.errors import RpcError

LOGIN, DONE = "mcpServer/oauth/login", "mcpServer/oauthLogin/completed"


def configure(lab: AppLab, url: str) -> None:
    with (lab.home / "config.toml").open("a") as file:
        file.write(f'\n[mcp_servers.web]\nurl = "{url}"\n[mcp_servers.local]\ncommand = "true"\n')


async def visit(address: str, **answer: str) -> int:
    """Come back from the login page as a browser would; the status of the page there."""
    asked = query(address)
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(asked["redirect_uri"], params={"state": asked["state"], **answer}) as page,
    ):
        return page.status


async def status(client: LabClient) -> dict[str, Any]:
    listed = await client.request("mcpServerStatus/list", {"serverName": "web"})
    [row] = listed["data"]
    return row


async def log_in(client: LabClient, server: LoginServer) -> dict[str, Any]:
    begun = await client.request(LOGIN, {"name": "web", "scopes": ["read"]})
    assert begun["authorizationUrl"].startswith(f"{server.base}/authorize?")
    assert query(begun["authorizationUrl"])["code_challenge_method"] == "S256"
    assert await visit(begun["authorizationUrl"], code="abc") == 200
    done = await client.until(DONE)
    assert done["loginId"] == begun["loginId"]
    return done


async def test_a_login_opens_the_server_is_kept_and_serves_the_next_start(tmp_path: Path):
    async with LoginServer() as server, AppLab(tmp_path, "memory") as lab:
        configure(lab, server.url)
        client = await lab.connect()
        assert (await status(client))["authStatus"] == "unsupported"
        assert (await log_in(client, server))["success"] is True
        assert server.grants[0]["grant_type"] == "authorization_code"
        assert server.grants[0]["code_verifier"]
        row = await status(client)
        assert (row["authStatus"], list(row["tools"])) == ("oAuth", ["ping"])
        file = lab.home / "mcp-logins.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

        thread_id = await lab.start_thread(client)
        call = {"threadId": thread_id, "server": "web", "tool": "ping"}
        result = await client.request("mcpServer/tool/call", call)
        assert result["content"][0]["text"] == "pong"
        assert len(server.grants) == 1


async def test_a_token_that_has_expired_is_refreshed_without_anybody(tmp_path: Path):
    async with LoginServer(expires_in=1) as server, AppLab(tmp_path, "memory") as lab:
        configure(lab, server.url)
        client = await lab.connect()
        await log_in(client, server)
        thread_id = await lab.start_thread(client)
        call = {"threadId": thread_id, "server": "web", "tool": "ping"}
        async with asyncio.timeout(15):
            while len(server.grants) == 1:
                result = await client.request("mcpServer/tool/call", call)
                assert result["content"][0]["text"] == "pong"
        assert server.grants[1]["grant_type"] == "refresh_token"


async def test_a_login_that_is_refused_or_not_finished_says_so(tmp_path: Path):
    async with LoginServer() as server, AppLab(tmp_path, "memory") as lab:
        configure(lab, server.url)
        client = await lab.connect()
        begun = await client.request(LOGIN, {"name": "web"})
        await visit(begun["authorizationUrl"], error="access_denied")
        done = await client.until(DONE)
        assert (done["success"], done["name"]) == (False, "web")
        assert "access_denied" in done["error"]

        await client.request(LOGIN, {"name": "web", "timeoutSecs": 1})
        assert "nobody logged in within 1 s" in (await client.until(DONE))["error"]
        assert server.grants == []
        assert (await status(client))["authStatus"] == "unsupported"


async def test_servers_without_a_login_are_refused(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        configure(lab, "http://127.0.0.1:9/mcp")
        client = await lab.connect()
        for name, words in (
            ("zz", "No MCP server named 'zz' found."),
            ("local", "OAuth login is only supported for streamable HTTP servers."),
            ("web", "the login failed"),
        ):
            with pytest.raises(RpcError, match=words):
                await client.request(LOGIN, {"name": name})
