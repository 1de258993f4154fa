"""The port to logins: who is logged in for the configured provider, and how that changes.

Implemented above the engine, where the home folder is known.
"""

from typing import Any, Literal, Protocol

from treadle.engine.services.errors import Refused

AuthMode = Literal["apikey", "chatgpt"]


class LoginDisabled(Refused):
    """An administrator or the user allows another way to log in only; the text names it."""


class Accounts(Protocol):
    """Logins as the protocol presents them."""

    def read(self) -> dict[str, Any]:
        """`{account, requiresOpenaiAuth}`; the account is null where the provider needs none."""
        ...

    def auth_status(self, *, include_token: bool) -> dict[str, Any]:
        """`{authMethod, authToken, requiresOpenaiAuth}`; the token only when asked for."""
        ...

    def mode(self) -> tuple[AuthMode | None, str | None]:
        """The way of the stored login and its plan; None for none."""
        ...

    def log_in_with_key(self, key: str) -> None:
        """Keep an API key as the login; raises LoginDisabled, or OSError when it cannot be kept."""
        ...

    def check_chatgpt_allowed(self) -> None:
        """Raise LoginDisabled when ChatGPT logins are switched off."""
        ...

    def log_out(self) -> bool:
        """Forget the login; whether there was one."""
        ...
