"""Reads `--listen` URLs."""

import ipaddress
from dataclasses import dataclass
from typing import Literal


class BadListen(ValueError):
    """The URL names nothing that can be listened on; the text says what can."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to serve."""

    scheme: Literal["stdio", "ws"]
    host: str = ""
    port: int = 0

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return ipaddress.ip_address(self.host).is_loopback


def parse_listen(url: str) -> Listen:
    """The place that a `--listen` URL names; raises BadListen."""
    if url == "stdio://":
        return Listen("stdio")
    if url == "off":
        raise BadListen("no transport configured; use --listen stdio:// or --listen ws://IP:PORT")
    scheme, _, rest = url.partition("://")
    if scheme == "ws":
        host, _, port = rest.rpartition(":")
        try:
            address = ipaddress.ip_address(host.strip("[]"))
            return Listen("ws", str(address), _port(port))
        except ValueError:
            raise BadListen(
                f"invalid websocket --listen URL `{url}`; expected `ws://IP:PORT`"
            ) from None
    raise BadListen(
        f"unsupported --listen URL `{url}`; expected `stdio://`, `ws://IP:PORT`, or `off`"
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port
