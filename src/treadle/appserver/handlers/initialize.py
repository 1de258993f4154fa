"""`initialize`: the handshake."""

from treadle.appserver.context import Context, Services
from treadle.appserver.greeting import greet
from treadle.appserver.session import Session
from treadle.wire.protocol.initialize import InitializeParams, InitializeResult


async def initialize(context: Context, params: InitializeParams) -> InitializeResult:
    """Note who the client is and what it wants; then tell it what every client hears first."""
    greeting, result = greet(params, context.services.facts)
    context.session.greeted(greeting)
    context.afterwards(lambda: tell_first(context.session, context.services))
    return result


def tell_first(session: Session, services: Services) -> None:
    """What every client hears first: remote control, which there is none of, then warnings."""
    remote = {
        "status": "disabled",
        "serverName": services.host,
        "installationId": services.installation_id,
        "environmentId": None,
    }
    services.subscriptions.notify(session, "remoteControl/status/changed", remote)
    for warning in services.config.warnings():
        services.subscriptions.notify(session, "configWarning", warning)
