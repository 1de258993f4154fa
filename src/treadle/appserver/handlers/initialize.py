"""`initialize`: the handshake."""

import os

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
    machine = os.uname()
    system = f"{machine.sysname} {machine.release}; {machine.machine}"
    session.user_agent = (
        f"{client.name}/{services.protocol_version} ({system}) {services.product} "
        f"({client.name}; {client.version})"
    )
    context.afterwards(lambda: _greet(context))
    return InitializeResult(
        user_agent=session.user_agent,
        codex_home=services.home,
        platform_family="unix",
        platform_os=machine.sysname.lower(),
    )


def _greet(context: Context) -> None:
    """What every client hears first: remote control, which there is none of, then warnings."""
    services = context.services
    remote = {
        "status": "disabled",
        "serverName": services.host,
        "installationId": services.installation_id,
        "environmentId": None,
    }
    services.subscriptions.notify(context.session, "remoteControl/status/changed", remote)
    for warning in services.config.warnings():
        services.subscriptions.notify(context.session, "configWarning", warning)


def _is_header_value(text: str) -> bool:
    """Visible ASCII, spaces and tabs (RFC 9110 field values, as the references read it)."""
    return bool(text) and all(char == "\t" or " " <= char <= "~" for char in text)
