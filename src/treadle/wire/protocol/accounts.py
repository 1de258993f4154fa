"""Parameters, results and notifications of `account/*` and `getAuthStatus`.

Both reference versions, 0.129.0 and 0.169.0; the fields of other ways to log in are tolerated.
"""

from typing import Any, Literal

from treadle.domain.items import Shape


class AccountReadParams(Shape, kw_only=True):
    """Parameters of `account/read`."""

    refresh_token: bool = False


class AccountReadResult(Shape, kw_only=True):
    """The account in use, null without one."""

    account: dict[str, Any] | None = None
    requires_openai_auth: bool = False


class LoginStartParams(Shape, kw_only=True):
    """Parameters of `account/login/start`: a tagged union, of which keys are supported."""

    type: Literal[
        "apiKey",
        "chatgpt",
        "chatgptDeviceCode",
        "chatgptAuthTokens",
        "amazonBedrock",
        "amazonBedrockAccessKeys",
    ]
    api_key: str | None = None


class LoginStarted(Shape, kw_only=True):
    """Result of `account/login/start`; a key is kept by then."""

    type: Literal["apiKey"] = "apiKey"


class LoginCancelParams(Shape, kw_only=True):
    """Parameters of `account/login/cancel`."""

    login_id: str


class LoginCancelled(Shape, kw_only=True):
    """Result of `account/login/cancel`."""

    status: Literal["canceled", "notFound"]


class AuthStatusParams(Shape, kw_only=True):
    """Parameters of `getAuthStatus`; null means no."""

    include_token: bool | None = None
    refresh_token: bool | None = None


class AuthStatus(Shape, kw_only=True):
    """Result of `getAuthStatus`; the token is null unless asked for."""

    auth_method: str | None = None
    auth_token: str | None = None
    requires_openai_auth: bool | None = None


class LoginCompleted(Shape, kw_only=True):
    """Notification `account/login/completed`; a login with a key has no id."""

    login_id: str | None = None
    success: bool = True
    error: str | None = None


class AccountUpdated(Shape, kw_only=True):
    """Notification `account/updated`: the way of the login now, null for none."""

    auth_mode: str | None = None
    plan_type: str | None = None
