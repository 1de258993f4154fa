"""Servers that listen on websockets: the door, its guards, and how they end."""

import asyncio
import hashlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.fake_provider import Step, reply
from support.listening import Listening, ListeningServer

ANYWHERE = "ws://127.0.0.1:0"
SECRET = b"k" * 32


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Listening]:
    async with Listening(tmp_path) as lab:
        yield lab


def ask(server: ListeningServer, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    url = server.url.replace("ws:", "http:") + path
    return httpx.request(method, url, headers=headers, trust_env=False, timeout=10)


async def knock(lab: Listening, server: ListeningServer, token: str | None) -> tuple[int, str]:
    """Try to open a websocket; the status and text of the answer."""
    headers = {} if token is None else {"Authorization": token}
    try:
        await lab.connect(server, additional_headers=headers)
    except InvalidStatus as refusal:
        return refusal.response.status_code, (refusal.response.body or b"").decode()
    return 101, ""


def turn_that_waits(lab: Listening) -> asyncio.Event:
    """The next turn lasts until the event is set."""
    gate = asyncio.Event()
    lab.provider.script(Step([gate, *reply("at last").events]))
    return gate


# ---------------------------------------------------------------- the door


async def test_start_up_names_the_real_port_and_where_to_probe(lab: Listening):
    server = await lab.start(ANYWHERE)
    assert server.said.startswith("treadle app-server (WebSockets)\n")
    assert not server.url.endswith(":0")
    http = server.url.replace("ws:", "http:")
    assert f"readyz: {http}/readyz" in server.said
    assert f"healthz: {http}/healthz" in server.said


async def test_probes_answer_plain_requests_and_every_origin_is_turned_away(lab: Listening):
    server = await lab.start(ANYWHERE)

    def look() -> None:
        for path in ("/readyz", "/healthz", "/readyz?x=1"):
            assert ask(server, path).status_code == 200
            assert ask(server, path).text == ""
            assert ask(server, path, "POST").status_code == 405
            assert ask(server, path, Origin="http://evil.example").status_code == 403
        other = ask(server, "/")
        assert (other.status_code, other.text) == (
            400,
            "Connection header did not include 'upgrade'",
        )

    await asyncio.to_thread(look)
    with pytest.raises(InvalidStatus, match="403"):
        await lab.connect(server, origin=server.url.replace("ws:", "http:"))


async def test_one_text_message_is_one_frame_and_binary_ones_are_dropped_with_a_word(
    lab: Listening,
):
    server = await lab.start(ANYWHERE)
    client = await lab.connect(server)
    request = json.dumps({"id": "x", "method": "model/list", "params": {}})
    await client.socket.send(request.encode())
    await client.socket.send(request + request)
    await client.socket.send(request.replace('"x"', '"y"'))
    assert "result" in await client.until(id="y")
    assert not [message for message in client.came if message.get("id") == "x"]
    assert "binary" in await server.says("no message")


async def test_a_message_past_the_limit_ends_that_connection_alone(lab: Listening):
    server = await lab.start(ANYWHERE)
    mad, sane = await lab.connect(server), await lab.connect(server)
    await mad.socket.send("x" * ((16 << 20) + 1))
    with pytest.raises(ConnectionClosed) as closed:
        await mad.until(id="never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert "result" in await sane.ask("model/list", {})


async def test_pings_are_answered(lab: Listening):
    client = await lab.connect(await lab.start(ANYWHERE))
    async with asyncio.timeout(10):
        await (await client.socket.ping())


async def test_clients_hear_remote_control_first_unless_they_opted_out(lab: Listening):
    server = await lab.start(ANYWHERE)
    client = await lab.connect(server)
    await client.ask("model/list", {})
    status = client.came[1]
    assert (client.came[0]["id"], status["method"]) == (1, "remoteControl/status/changed")
    assert (status["params"]["status"], status["params"]["environmentId"]) == ("disabled", None)
    assert status["params"]["serverName"]
    installed = (lab.home / "installation_id").read_text()
    assert status["params"]["installationId"] == installed
    deaf = await lab.connect(server, initialize=False)
    await deaf.initialize(optOutNotificationMethods=["remoteControl/status/changed"])
    await deaf.ask("model/list", {})
    assert [message.get("method") for message in deaf.came] == [None, None]


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("given", ["file", "digest"])
async def test_a_capability_token_opens_and_nothing_else_does(lab: Listening, given: str):
    file = lab.work / "token"
    file.write_text("  open sesame\n")
    digest = hashlib.sha256(b"open sesame").hexdigest().upper()
    flag = ("--ws-token-file", "token") if given == "file" else ("--ws-token-sha256", digest)
    server = await lab.start(ANYWHERE, "--ws-auth", "capability-token", *flag)
    assert await knock(lab, server, None) == (401, "missing websocket bearer token")
    assert await knock(lab, server, "Basic abc") == (401, "invalid authorization header")
    assert await knock(lab, server, "Bearer nope") == (401, "invalid websocket bearer token")
    assert await knock(lab, server, "bEaReR   open sesame ") == (101, "")
    assert (await asyncio.to_thread(ask, server, "/readyz")).status_code == 200
    assert "open sesame" not in server.said


async def test_signed_tokens_are_refused_claim_by_claim(lab: Listening):
    file = lab.work / "secret"
    file.write_bytes(SECRET + b"\n")
    flags = ("--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", str(file))
    flags += ("--ws-issuer", "iss", "--ws-audience", "aud", "--ws-max-clock-skew-seconds", "5")
    server = await lab.start(ANYWHERE, *flags)
    now = int(time.time())

    async def verdict(
        key: Any = SECRET, algorithm: str = "HS256", without: str = "", **changed: Any
    ) -> str:
        claims = {"iss": "iss", "aud": "aud", "exp": now + 60, **changed}
        claims.pop(without, None)
        return (await knock(lab, server, "Bearer " + jwt.encode(claims, key, algorithm)))[1]

    assert await verdict() == ""
    assert await verdict(aud=["other", "aud"], iat=now + 300, sub=7) == ""
    assert await verdict(exp=now - 1) == "", "within the skew"
    assert await verdict(exp=now - 60) == "expired websocket jwt"
    assert await verdict(nbf=now + 60) == "websocket jwt is not valid yet"
    assert await verdict(iss="other") == "websocket jwt issuer mismatch"
    assert await verdict(without="iss") == "websocket jwt issuer mismatch"
    assert await verdict(aud="other") == "websocket jwt audience mismatch"
    assert await verdict(without="aud") == "websocket jwt audience mismatch"
    assert await verdict(without="exp") == "invalid websocket jwt"
    assert await verdict(key=b"x" * 32) == "invalid websocket jwt"
    assert await verdict(key=SECRET * 2, algorithm="HS512") == "invalid websocket jwt"
    assert await verdict(algorithm="none", key=None) == "invalid websocket jwt"
    assert await knock(lab, server, "Bearer abc") == (401, "invalid websocket jwt")


# ---------------------------------------------------------------- signals


async def test_a_draining_server_serves_everything_but_new_turns_then_ends(lab: Listening):
    gate = turn_that_waits(lab)
    server = await lab.start(ANYWHERE)
    client = await lab.connect(server)
    busy, other = await client.start_thread(), await client.start_thread()
    await client.start_turn(busy)
    await lab.provider.wait_requests(1)
    server.signal()
    await server.says("draining")
    refusal = (await client.start_turn(other))["error"]
    assert refusal["code"] == -32600
    assert "draining" in refusal["message"]
    assert (await asyncio.to_thread(ask, server, "/readyz")).status_code == 200
    late = await lab.connect(server)
    assert busy in (await late.ask("thread/loaded/list", {}))["result"]["data"]
    gate.set()
    done = await client.until(method="turn/completed")
    assert done["params"]["turn"]["status"] == "completed"
    assert await server.ends() == 0


async def test_a_second_signal_interrupts_what_runs_and_tells_the_clients(lab: Listening):
    turn_that_waits(lab)
    server = await lab.start(ANYWHERE)
    client = await lab.connect(server)
    await client.start_turn(await client.start_thread())
    await lab.provider.wait_requests(1)
    server.signal(signal.SIGINT)
    await server.says("draining")
    server.signal()
    done = await client.until(method="turn/completed")
    assert done["params"]["turn"]["status"] == "interrupted"
    with pytest.raises(ConnectionClosed) as closed:
        await client.until(method="never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert await server.ends() == 0


async def test_an_idle_server_ends_at_the_first_signal(lab: Listening):
    server = await lab.start(ANYWHERE)
    await lab.connect(server)
    server.signal()
    assert await server.ends() == 0
    assert "disconnecting 1 connection(s)" in server.said


# ---------------------------------------------------------------- servers that do not start


async def test_a_taken_port_is_told_with_a_remedy(lab: Listening):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = await lab.refused("--listen", f"ws://127.0.0.1:{port}")
    assert code == 1
    assert f"cannot listen on ws://127.0.0.1:{port}: Address already in use" in said
    assert "port 0" in said
    assert "Traceback" not in said


async def test_an_address_of_another_machine_is_told_with_a_remedy(lab: Listening):
    flags = ("--ws-auth", "capability-token", "--ws-token-sha256", "0" * 64)
    code, said = await lab.refused("--listen", "ws://192.0.2.1:4500", *flags)
    assert code == 1
    assert "no such address" in said
