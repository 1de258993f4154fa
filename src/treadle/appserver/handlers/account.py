"""`account/*` and `getAuthStatus`: from parameters to the logins and back to every connection."""

import uuid
from typing import Any

from treadle.appserver.context import Context
from treadle.wire.protocol import accounts as proto
from treadle.wire.protocol.errors import invalid_request, unsupported
from treadle.wire.protocol.threads import Empty


async def read(context: Context, params: proto.AccountReadParams) -> dict[str, Any]:
    """The account of the configured provider."""
    del params
    return context.services.accounts().read()


async def auth_status(context: Context, params: proto.AuthStatusParams) -> dict[str, Any]:
    """The login, with its token when asked for."""
    return context.services.accounts().auth_status(include_token=bool(params.include_token))


async def start_login(context: Context, params: proto.LoginStartParams) -> proto.LoginStarted:
    """Log in with a key; other ways need a client that Codex comes with."""
    accounts = context.services.accounts()
    if params.type != "apiKey":
        if params.type.startswith("chatgpt"):
            accounts.check_chatgpt_allowed()
        raise unsupported(
            f"account/login/start with {params.type} is not supported yet: log in with an API key,"
            " or sign in with a Codex client on the same home folder"
        )
    if params.api_key is None:
        raise invalid_request("Invalid request: missing field `apiKey`")
    accounts.log_in_with_key(params.api_key)

    def tell() -> None:
        context.services.subscriptions.notify_all("account/login/completed", proto.LoginCompleted())
        _tell_mode(context)

    context.afterwards(tell)
    return proto.LoginStarted()


async def cancel_login(context: Context, params: proto.LoginCancelParams) -> proto.LoginCancelled:
    """End a login that waits; none does here, as keys are kept at once."""
    del context
    try:
        uuid.UUID(params.login_id)
    except ValueError:
        raise invalid_request(f"invalid login id: {params.login_id}") from None
    return proto.LoginCancelled(status="notFound")


async def log_out(context: Context, params: None) -> Empty:
    """Forget the login; a second time is fine."""
    del params
    if context.services.accounts().log_out():
        context.afterwards(lambda: _tell_mode(context))
    return Empty()


def _tell_mode(context: Context) -> None:
    mode, plan = context.services.accounts().mode()
    told = proto.AccountUpdated(auth_mode=mode, plan_type=plan)
    context.services.subscriptions.notify_all("account/updated", told)
