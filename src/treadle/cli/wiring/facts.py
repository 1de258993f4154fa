"""What this process says of itself at the handshake."""

import os
from pathlib import Path

from treadle.appserver.greeting import ServerFacts
from treadle.cli.wiring.version import PRODUCT, PROTOCOL_VERSION


def server_facts(home: Path) -> ServerFacts:
    """The facts of a server with this home folder."""
    machine = os.uname()
    return ServerFacts(
        home=str(home),
        protocol_version=PROTOCOL_VERSION,
        product=PRODUCT,
        system=f"{machine.sysname} {machine.release}; {machine.machine}",
        platform=machine.sysname.lower(),
    )
