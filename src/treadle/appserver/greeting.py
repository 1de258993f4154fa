"""The handshake: what a client says of itself, and what it is told. Pure.

Kept apart from everything else, so that a process can greet its client before the rest of the
server is loaded. The form of the user agent is the references' (0.129.0, 0.169.0).
"""

import msgspec

from treadle.wire.protocol.errors import invalid_request
from treadle.wire.protocol.initialize import Capabilities, InitializeParams, InitializeResult


class ServerFacts(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    home: str
    protocol_version: str
    product: str
    """Name and version of this program, such as `treadle/0.1.0`."""
    system: str
    """Kernel, release and machine."""
    platform: str
    """Operating system in lower case."""


class Greeting(msgspec.Struct, frozen=True):
    """What a client asked for, and under which names it is known."""

    experimental: bool
    opted_out: frozenset[str]
    originator: str
    user_agent: str


def greet(params: InitializeParams, facts: ServerFacts) -> tuple[Greeting, InitializeResult]:
    """Note who the client is; raises RpcError for a name that no header could carry."""
    client = params.client_info
    if not _is_header_value(client.name):
        raise invalid_request(
            f"Invalid clientInfo.name: {client.name!r}. Must be a valid HTTP header value."
        )
    capabilities = params.capabilities or Capabilities()
    # Clients read the protocol version after the first slash; ours stands where the references
    # name the terminal.
    user_agent = (
        f"{client.name}/{facts.protocol_version} ({facts.system}) {facts.product} "
        f"({client.name}; {client.version})"
    )
    greeting = Greeting(
        experimental=capabilities.experimental_api,
        opted_out=frozenset(capabilities.opt_out_notification_methods or ()),
        originator=client.name,
        user_agent=user_agent,
    )
    result = InitializeResult(
        user_agent=user_agent,
        codex_home=facts.home,
        platform_family="unix",
        platform_os=facts.platform,
    )
    return greeting, result


def _is_header_value(text: str) -> bool:
    """Visible ASCII, spaces and tabs (RFC 9110 field values, as the references read it)."""
    return bool(text) and all(char == "\t" or " " <= char <= "~" for char in text)
