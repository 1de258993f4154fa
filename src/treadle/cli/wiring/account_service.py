"""Logins as the protocol presents them: the engine's `Accounts` over the home's `auth.json`."""

from typing import Any

from treadle.config import logins
from treadle.config.store import ConfigStore
from treadle.engine.services.accounts import AuthMode, LoginDisabled


class StoredAccounts:
    """Reads, writes and forgets the login of one home folder."""

    def __init__(self, config: ConfigStore) -> None:
        """Serve the home of `config`."""
        self._config = config

    def read(self) -> dict[str, Any]:
        """The account of the configured provider."""
        provider = self._config.startup().model.provider
        if not provider.requires_openai_auth:
            return {"account": None, "requiresOpenaiAuth": False}
        login = self._config.login()
        account: dict[str, Any] | None = None
        if login is not None and login.mode == "chatgpt":
            plan = login.plan or "unknown"
            account = {"type": "chatgpt", "email": login.email or "", "planType": plan}
        elif provider.bearer is not None:
            account = {"type": "apiKey"}
        return {"account": account, "requiresOpenaiAuth": True}

    def auth_status(self, *, include_token: bool) -> dict[str, Any]:
        """The login, its token only when asked for."""
        login = self._config.login()
        return {
            "authMethod": None if login is None else login.mode,
            "authToken": login.token if login is not None and include_token else None,
            "requiresOpenaiAuth": self._config.startup().model.provider.requires_openai_auth,
        }

    def mode(self) -> tuple[AuthMode | None, str | None]:
        """The way of the stored login and its plan."""
        login = self._config.login()
        return (None, None) if login is None else (login.mode, login.plan)

    def log_in_with_key(self, key: str) -> None:
        """Keep an API key as the login."""
        if self._config.startup().forced_login_method == "chatgpt":
            raise LoginDisabled("API key login is disabled. Use ChatGPT login instead.")
        logins.keep_key(self._config.home, key)

    def check_chatgpt_allowed(self) -> None:
        """Refuse where only keys are allowed."""
        if self._config.startup().forced_login_method == "api":
            raise LoginDisabled("ChatGPT login is disabled. Use API key login instead.")

    def log_out(self) -> bool:
        """Forget the login."""
        return logins.forget(self._config.home)
