"""What a device key may sign: checks of the protocol's two payloads (0.129.0). Pure.

A signature says which machine speaks, so it is given only for what a remote-control backend asks:
a fresh nonce, an origin and path of such a backend, an end within minutes. Texts are 0.129.0's.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

MAX_SECONDS = 15 * 60
"""How far ahead a token or challenge may end."""
NONCE_BYTES = 32
SCOPE = "remote_control_controller_websocket"
_HOSTS = ("chatgpt.com", "chatgpt-staging.com")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_PATHS = {
    "remoteControlClientConnection": "/remote/control/client",
    "remoteControlClientEnrollment": "/remote/control/client/enroll",
}
_BASES = ("/api/codex", "/wham")


class BadPayload(Exception):
    """The payload may not be signed; the text says which part is wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid device key payload: {reason}")


def check_payload(payload: Mapping[str, Any], now: float) -> None:
    """Raise BadPayload unless `payload` may be signed at `now` (seconds since 1970)."""
    kind: str = payload["type"]
    _need(
        len(_bytes(payload["nonce"]) or b"") >= NONCE_BYTES,
        f"nonce must be at least {NONCE_BYTES} random bytes encoded as unpadded base64url",
    )
    enrolling = kind == "remoteControlClientEnrollment"
    named = "challengeId" if enrolling else "sessionId"
    if enrolling:
        _not_empty(payload, named)
    _need(
        _is_backend(payload["targetOrigin"]),
        "targetOrigin must be an allowed remote-control backend origin",
    )
    _need(
        payload["targetPath"] in {base + _PATHS[kind] for base in _BASES},
        "targetPath must match the signed payload type's remote-control endpoint",
    )
    for name in (named, "accountUserId", "clientId"):
        _not_empty(payload, name)
    digest = "deviceIdentitySha256Base64url" if enrolling else "tokenSha256Base64url"
    _need(
        len(_bytes(payload[digest]) or b"") == 32,
        f"{digest} must be a SHA-256 digest encoded as unpadded base64url",
    )
    if enrolling:
        _check_end(payload["challengeExpiresAt"], now, "enrollment challenge")
        return
    _need(payload["scopes"] == [SCOPE], f"scopes must contain exactly {SCOPE}")
    _check_end(payload["tokenExpiresAt"], now, "remote-control token")


def _need(holds: bool, reason: str) -> None:
    if not holds:
        raise BadPayload(reason)


def _not_empty(payload: Mapping[str, Any], name: str) -> None:
    _need(bool(payload[name]), f"{name} must not be empty")


def _check_end(ends_at: int, now: float, what: str) -> None:
    _need(ends_at > now, f"{what} is expired")
    _need(ends_at <= now + MAX_SECONDS, f"{what} expires too far in the future")


def _is_backend(origin: str) -> bool:
    scheme, separator, rest = origin.rstrip("/").partition("://")
    if not separator or "/" in rest or "@" in rest:
        return False
    host = rest.rpartition(":")[0] if rest.rpartition(":")[2].isdecimal() else rest
    if host in _LOCAL:
        return scheme in ("http", "https")
    known = any(host == name or host.endswith(f".{name}") for name in _HOSTS)
    return scheme == "https" and known


def _bytes(text: str) -> bytes | None:
    """Unpadded base64url (RFC 4648) as bytes; None for anything else, loose last bits included."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    canonical = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    return data if canonical == text else None
