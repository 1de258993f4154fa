"""Model providers as configuration describes them, ready to be used.

Owns the built-in provider, the checks of custom ones and the resolution of keys that live in
environment variables. Pure: the environment is a parameter. Its repr shows no secrets.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from treadle.config.environment import Environment
from treadle.config.errors import ConfigError
from treadle.config.layers import section
from treadle.config.logins import Login
from treadle.kit.discreet import Discreet

DEFAULT_PROVIDER = "openai"
OPENAI_BASE_URL = "https://api.openai.com/v1"
CHATGPT_BASE_URL = "https://chatgpt.com/backend-api"
"""Where the tokens of a ChatGPT login are taken."""


class ProviderConfig(Discreet, frozen=True, kw_only=True):
    """Where and how a model is asked.

    `bearer` is the key to send, None to send none. `missing_env` names the variable that should
    have held it: a turn then fails with `missing_env_message`, before any request. `env_key` is
    kept for display only. Times are milliseconds; None leaves the client's default.
    """

    unseen = ("bearer", "headers", "query_params")

    id: str
    name: str
    base_url: str | None
    env_key: str | None = None
    bearer: str | None = None
    missing_env: str | None = None
    missing_env_message: str | None = None
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    query_params: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    request_max_retries: int | None = None
    stream_max_retries: int | None = None
    stream_idle_timeout_ms: int | None = None
    requires_openai_auth: bool = False
    supports_websockets: bool = False
    built_in: bool = False


def check_providers(table: Mapping[str, Any]) -> None:
    """Raise ConfigError for custom providers without a name or with a built-in's id."""
    providers = section(table, "model_providers")
    if DEFAULT_PROVIDER in providers:
        raise ConfigError(
            "model_providers contains reserved built-in provider IDs: `openai`. Built-in providers"
            " cannot be overridden. Rename your custom provider (for example, `openai-custom`).",
            kind="value",
            key=("model_providers",),
            place=("model_providers", DEFAULT_PROVIDER),
        )
    for provider_id, values in providers.items():
        if not str(values.get("name") or "").strip():
            raise ConfigError(
                f"model_providers.{provider_id}: provider name must not be empty",
                kind="value",
                key=("model_providers",),
                place=("model_providers", provider_id),
            )


def read_providers(
    table: Mapping[str, Any], environment: Environment, login: Login | None
) -> dict[str, ProviderConfig]:
    """All providers by id: the custom ones, then the built-in one.

    The stored `login` goes only to providers that ask for it.
    """
    found = {
        provider_id: _custom(provider_id, values, environment, login)
        for provider_id, values in section(table, "model_providers").items()
    }
    found[DEFAULT_PROVIDER] = ProviderConfig(
        id=DEFAULT_PROVIDER,
        name="OpenAI",
        base_url=table.get("openai_base_url")
        or environment.get("OPENAI_BASE_URL")
        or _built_in_url(table, login),
        bearer=login.token if login else environment.get("OPENAI_API_KEY"),
        headers=MappingProxyType(_account_headers(login)),
        requires_openai_auth=True,
        built_in=True,
    )
    return found


def _custom(
    provider_id: str, values: Mapping[str, Any], environment: Environment, login: Login | None
) -> ProviderConfig:
    env_key: str | None = values.get("env_key")
    account: dict[str, str] = {}
    bearer, missing, message = values.get("experimental_bearer_token"), None, None
    if env_key:
        bearer = environment.get(env_key)
        if bearer is None:
            missing, message = env_key, f"Missing environment variable: `{env_key}`."
            if advice := values.get("env_key_instructions"):
                message = f"{message} {advice}"
    elif bearer is None and values.get("requires_openai_auth"):
        bearer = login.token if login else environment.get("OPENAI_API_KEY")
        account = _account_headers(login)
    headers = {**account, **section(values, "http_headers")}
    for header, variable in section(values, "env_http_headers").items():
        if value := environment.get(variable):
            headers[header] = value
    return ProviderConfig(
        id=provider_id,
        name=values["name"],
        base_url=values.get("base_url"),
        env_key=env_key,
        bearer=bearer,
        missing_env=missing,
        missing_env_message=message,
        headers=MappingProxyType(headers),
        query_params=MappingProxyType(dict(section(values, "query_params"))),
        request_max_retries=values.get("request_max_retries"),
        stream_max_retries=values.get("stream_max_retries"),
        stream_idle_timeout_ms=values.get("stream_idle_timeout_ms"),
        requires_openai_auth=bool(values.get("requires_openai_auth")),
        supports_websockets=bool(values.get("supports_websockets")),
    )


def _account_headers(login: Login | None) -> dict[str, str]:
    """What a ChatGPT login sends beside its token; a provider's own headers win."""
    account_id = login.account_id if login is not None and login.mode == "chatgpt" else None
    return {"chatgpt-account-id": account_id} if account_id else {}


def _built_in_url(table: Mapping[str, Any], login: Login | None) -> str:
    if login is None or login.mode != "chatgpt":
        return OPENAI_BASE_URL
    return f"{(table.get('chatgpt_base_url') or CHATGPT_BASE_URL).rstrip('/')}/codex"
