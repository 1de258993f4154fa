"""`account/*` and `getAuthStatus`: who is logged in, and what of it a client or a provider sees."""

import base64
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab
from support.fake_provider import reply
from treadle import InProcessOptions, InProcessServer, RpcError, ServerNotification

KEY = "sk-of-a-test"
NEEDS_LOGIN = """
model = "mock-model"
model_provider = "mine"
[model_providers.mine]
name = "Mine"
base_url = "http://127.0.0.1:9/v1"
requires_openai_auth = true
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(NEEDS_LOGIN)
    return home


@pytest.fixture
async def server(home: Path) -> AsyncIterator[InProcessServer]:
    async with InProcessServer(InProcessOptions(home=str(home))) as server:
        yield server


async def heard(server: InProcessServer, method: str) -> dict[str, Any]:
    while True:
        event = await server.next_event()
        if isinstance(event, ServerNotification) and event.method == method:
            return event.params


async def test_a_key_is_kept_privately_told_of_and_forgotten(
    server: InProcessServer, home: Path
) -> None:
    assert await server.request("account/read", {}) == {
        "account": None,
        "requiresOpenaiAuth": True,
    }
    params = {"type": "apiKey", "apiKey": KEY}
    assert await server.request("account/login/start", params) == {"type": "apiKey"}
    completed = await heard(server, "account/login/completed")
    assert completed == {"loginId": None, "success": True, "error": None}
    assert await heard(server, "account/updated") == {"authMode": "apikey", "planType": None}
    file = home / "auth.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"auth_mode": "apikey", "OPENAI_API_KEY": KEY}
    assert (await server.request("account/read", {}))["account"] == {"type": "apiKey"}
    for asked, token in (({}, None), ({"includeToken": True}, KEY)):
        status = await server.request("getAuthStatus", asked)
        assert (status["authMethod"], status["authToken"]) == ("apikey", token)
    assert await server.request("account/logout") == {}
    assert await heard(server, "account/updated") == {"authMode": None, "planType": None}
    assert not file.exists()
    assert await server.request("account/logout") == {}


async def test_other_ways_to_log_in_say_what_to_do(server: InProcessServer, home: Path) -> None:
    with pytest.raises(RpcError, match="log in with an API key"):
        await server.request("account/login/start", {"type": "chatgpt"})
    with pytest.raises(RpcError, match="missing field `apiKey`"):
        await server.request("account/login/start", {"type": "apiKey"})
    with pytest.raises(RpcError, match="invalid login id: nope"):
        await server.request("account/login/cancel", {"loginId": "nope"})
    unknown = {"loginId": "00000000-0000-4000-8000-000000000000"}
    assert await server.request("account/login/cancel", unknown) == {"status": "notFound"}
    for method, params, words in (
        ("api", {"type": "chatgpt"}, "ChatGPT login is disabled"),
        ("chatgpt", {"type": "apiKey", "apiKey": KEY}, "API key login is disabled"),
    ):
        (home / "config.toml").write_text(f'forced_login_method = "{method}"\n{NEEDS_LOGIN}')
        with pytest.raises(RpcError, match=words):
            await server.request("account/login/start", params)
    assert not (home / "auth.json").exists()


def token(**claims: Any) -> str:
    parts = [{"alg": "none"}, claims]
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(text.rstrip("=") for text in texts), "c2ln"])


async def test_a_login_made_elsewhere_is_shown_and_sent(tmp_path: Path) -> None:
    about = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "acc-1"}
    claims = token(email="ada@example.com", **{"https://api.openai.com/auth": about})
    tokens = {"id_token": claims, "access_token": "of-a-test", "account_id": "acc-1"}
    login = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens}
    async with AppLab(tmp_path, "memory") as lab:
        (lab.home / "auth.json").write_text(json.dumps(login))
        with (lab.home / "config.toml").open("a") as file:
            file.write("requires_openai_auth = true\n")
        lab.provider.script(reply())
        client = await lab.connect()
        account = (await client.request("account/read", {}))["account"]
        assert account == {"type": "chatgpt", "email": "ada@example.com", "planType": "pro"}
        await lab.run_turn(client, await lab.start_thread(client))
        headers = lab.provider.requests[-1].headers
        assert headers["authorization"] == "Bearer of-a-test"
        assert headers["chatgpt-account-id"] == "acc-1"


@pytest.mark.parametrize(
    "text", ["not json", "[]", '{"tokens": 3}', '{"tokens": {"access_token": ""}}', "\x00"]
)
async def test_an_unreadable_login_counts_as_none(
    server: InProcessServer, home: Path, text: str
) -> None:
    (home / "auth.json").write_text(text)
    assert (await server.request("account/read", {}))["account"] is None
