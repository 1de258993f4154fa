"""Reads `--listen` URLs."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


class BadListen(ValueError):
    """The URL names nothing that can be listened on; the text says what can."""


class NoTransport(BadListen):
    """Listening was switched off, and nothing else keeps a server busy."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to serve."""

    scheme: Literal["stdio", "ws", "unix"]
    host: str = ""
    port: int = 0
    path: Path | None = None
    """Of a unix socket; None for the one in the home folder."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.scheme != "ws" or ipaddress.ip_address(self.host).is_loopback

    @property
    def address(self) -> str:
        """Host and port as URLs have them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(url: str) -> Listen:
    """The place that a `--listen` URL names; raises BadListen."""
    if url == "stdio://":
        return Listen("stdio")
    if url == "off":
        raise NoTransport(
            "no transport configured; use --listen stdio://, --listen unix:// or "
            "--listen ws://IP:PORT"
        )
    scheme, separator, rest = url.partition("://")
    if scheme == "unix" and separator:
        return Listen("unix", path=Path(rest).absolute() if rest else None)
    if scheme == "ws" and separator:
        return _parse_ws(url, rest)
    raise BadListen(
        f"unsupported --listen URL `{url}`; expected `stdio://`, `unix://`, `unix://PATH`, "
        "`ws://IP:PORT`, or `off`"
    )


def _parse_ws(url: str, rest: str) -> Listen:
    host, _, port = rest.removesuffix("/").rpartition(":")
    try:
        if host.startswith("[") and host.endswith("]"):
            host = str(ipaddress.IPv6Address(host[1:-1]))
        else:
            host = str(ipaddress.IPv4Address(host))
        return Listen("ws", host, _port(port))
    except ValueError:
        raise BadListen(
            f"invalid websocket --listen URL `{url}`; expected `ws://IP:PORT`, such as "
            "ws://127.0.0.1:4500"
        ) from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise ValueError(text)
    return int(text)
