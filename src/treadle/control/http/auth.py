"""Who may call: the manager's own token, tokens of tenants and projects, or loopback callers.

Decides before a body is read. Tokens are looked up in the database and remembered for a moment, so
that a revoked one is refused everywhere within `REMEMBER_SECONDS`. Claim and session tokens are
only taken out of the header here; the repository compares them inside the transaction.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit

from starlette.requests import Request

from treadle.control.access import OWNER, Principal
from treadle.control.http.problems import HttpFault
from treadle.kit.clock import Clock

AuthMode = Literal["none", "token"]

PREFIX = "tdl_"
"""How tokens of tenants begin; the manager's own may begin so as well."""
REMEMBER_SECONDS = 2.0
REMEMBERED = 1024

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


Find = Callable[[str], Awaitable[Principal | None]]


class Gate:
    """The API's front door."""

    def __init__(self, mode: AuthMode, token: str | None, clock: Clock, find: Find) -> None:
        """Keep the hash of the manager's own token, which mode `none` does not have.

        `find` tells whom another token admits.
        """
        self._mode = mode
        self._digest = _digest(token or "")
        self._clock = clock
        self._find = find
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def admit(self, request: Request) -> Principal:
        """Let a client's request pass; who it is.

        Raises:
            HttpFault: `unauthorized`, or `host-refused` in mode `none`.
        """
        token = bearer(request)
        if self._mode == "token" and hmac.compare_digest(_digest(token or ""), self._digest):
            return OWNER
        if token is not None and token.startswith(PREFIX):
            return await self._holder(token)
        if self._mode == "token":
            raise _unauthorized()
        self.admit_local(request)
        return OWNER

    async def _holder(self, token: str) -> Principal:
        digest = _digest(token)
        known = self._known.get(digest)
        now = self._clock.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        self._known.pop(digest, None)
        principal = await self._find(token)
        if principal is None:
            raise _unauthorized()
        self._known[digest] = (now + REMEMBER_SECONDS, principal)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return principal

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


def _unauthorized() -> HttpFault:
    return HttpFault(
        401, "unauthorized", "Send an API token of this manager as Authorization: Bearer."
    )


def bearer(request: Request) -> str | None:
    """The token of the Authorization header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
