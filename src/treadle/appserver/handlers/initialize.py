"""`initialize`: the handshake."""

import platform

from treadle.appserver.context import Context
from treadle.wire.protocol.errors import invalid_request
from treadle.wire.protocol.initialize import Capabilities, InitializeParams, InitializeResult


async def initialize(context: Context, params: InitializeParams) -> InitializeResult:
    """Note who the client is and what it wants; then tell it of configuration problems."""
    session, services = context.session, context.services
    client = params.client_info
    if not _is_header_value(client.name):
        shown = repr(client.name)
        raise invalid_request(
            f"Invalid clientInfo.name: {shown}. Must be a valid HTTP header value."
        )
    capabilities = params.capabilities or Capabilities()
    session.initialized = True
    session.experimental = capabilities.experimental_api
    session.opted_out = frozenset(capabilities.opt_out_notification_methods or ())
    session.originator = client.name
    # Clients read the protocol version after the first slash; ours stands where the references
    # name the terminal.
    system = f"{platform.system()} {platform.release()}; {platform.machine()}"
    session.user_agent = (
        f"{client.name}/{services.protocol_version} ({system}) {services.product} "
        f"({client.name}; {client.version})"
    )
    context.afterwards(lambda: _warn(context))
    return InitializeResult(
        user_agent=session.user_agent,
        codex_home=services.home,
        platform_family="unix",
        platform_os=platform.system().lower(),
    )


def _warn(context: Context) -> None:
    for warning in context.services.config.warnings():
        context.services.subscriptions.notify(context.session, "configWarning", warning)


def _is_header_value(text: str) -> bool:
    """Visible ASCII, spaces and tabs (RFC 9110 field values, as the references read it)."""
    return bool(text) and all(char == "\t" or " " <= char <= "~" for char in text)
