"""Who may call: API token, or loopback callers only.

Decides before a body is read. Claim and session tokens are only taken out of the header here; the
repository compares them with their hashes inside the transaction.
"""

import hashlib
import hmac
from typing import Literal
from urllib.parse import urlsplit

from starlette.requests import Request

from treadle.control.http.problems import HttpFault

AuthMode = Literal["none", "token"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """The API's front door."""

    def __init__(self, mode: AuthMode, token: str | None) -> None:
        """Keep the hash of the API token; mode `none` needs none."""
        self._mode = mode
        self._digest = _digest(token or "")

    def admit(self, request: Request) -> None:
        """Let a client's request pass.

        Raises:
            HttpFault: `unauthorized`, or `host-refused` in mode `none`.
        """
        if self._mode == "none":
            self.admit_local(request)
        elif not hmac.compare_digest(_digest(bearer(request) or ""), self._digest):
            raise HttpFault(
                401, "unauthorized", "Send the manager's API token as Authorization: Bearer."
            )

    def admit_fenced(self, request: Request) -> str:
        """The claim or session token of a runner's write; the repository judges it."""
        if self._mode == "none":
            self.admit_local(request)
        return bearer(request) or ""

    def admit_local(self, request: Request) -> None:
        """Without a token, only this machine may call, and no foreign web page through it.

        A page of another origin can reach loopback, with a name that resolves to it (DNS rebinding)
        or with a plain cross-site POST: the first shows in Host, the second in Origin.
        """
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).hostname not in LOOPBACK_NAMES
        if host not in LOOPBACK_NAMES or foreign:
            raise HttpFault(
                403,
                "host-refused",
                "Without authentication only this machine may call; use auth mode token.",
            )


def bearer(request: Request) -> str | None:
    """The token of the Authorization header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
