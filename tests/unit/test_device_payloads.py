"""Each check of what a device key signs, in the words of 0.129.0."""

from typing import Any

import pytest

from treadle.domain.device_payloads import BadPayload, check_payload

NOW = 1_800_000_000
DIGEST = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def connection(**change: Any) -> dict[str, Any]:
    return {
        "type": "remoteControlClientConnection",
        "nonce": "A" * 43,
        "sessionId": "s",
        "targetOrigin": "https://chatgpt.com",
        "targetPath": "/api/codex/remote/control/client",
        "accountUserId": "u",
        "clientId": "c",
        "tokenExpiresAt": NOW + 60,
        "tokenSha256Base64url": DIGEST,
        "scopes": ["remote_control_controller_websocket"],
        **change,
    }


def enrollment(**change: Any) -> dict[str, Any]:
    return {
        "type": "remoteControlClientEnrollment",
        "nonce": "A" * 43,
        "challengeId": "ch",
        "targetOrigin": "https://chatgpt.com",
        "targetPath": "/wham/remote/control/client/enroll",
        "accountUserId": "u",
        "clientId": "c",
        "deviceIdentitySha256Base64url": DIGEST,
        "challengeExpiresAt": NOW + 60,
        **change,
    }


GOOD = [
    connection(),
    connection(nonce="A" * 64),
    connection(targetPath="/wham/remote/control/client"),
    connection(targetOrigin="https://chatgpt.com/"),
    connection(targetOrigin="https://chatgpt-staging.com"),
    connection(targetOrigin="https://api.chatgpt.com"),
    connection(targetOrigin="http://localhost:8080"),
    connection(tokenExpiresAt=NOW + 900),
    enrollment(),
    enrollment(targetPath="/api/codex/remote/control/client/enroll"),
]
BAD = [
    (connection(nonce="short"), "nonce must be at least 32 random bytes"),
    (connection(nonce="A" * 42 + "B"), "nonce must be at least 32 random bytes"),
    (connection(nonce="ä" * 43), "nonce must be at least 32 random bytes"),
    (connection(sessionId=""), "sessionId must not be empty"),
    (connection(targetOrigin="https://evil.example"), "targetOrigin must be an allowed"),
    (connection(targetOrigin="https://evilchatgpt.com"), "targetOrigin must be an allowed"),
    (connection(targetOrigin="https://chatgpt.com@evil.example"), "targetOrigin must be an"),
    (connection(targetOrigin="http://chatgpt.com"), "targetOrigin must be an allowed"),
    (connection(targetPath="/x"), "targetPath must match"),
    (connection(targetPath=enrollment()["targetPath"]), "targetPath must match"),
    (connection(accountUserId="", scopes=[]), "accountUserId must not be empty"),
    (connection(clientId=""), "clientId must not be empty"),
    (connection(tokenSha256Base64url="zz"), "tokenSha256Base64url must be a SHA-256 digest"),
    (connection(scopes=[]), "scopes must contain exactly"),
    (connection(tokenExpiresAt=NOW), "remote-control token is expired"),
    (connection(tokenExpiresAt=NOW + 901), "remote-control token expires too far in the future"),
    (enrollment(challengeId="", targetOrigin="z"), "challengeId must not be empty"),
    (enrollment(challengeExpiresAt=1), "enrollment challenge is expired"),
    (enrollment(challengeExpiresAt=NOW + 901), "enrollment challenge expires too far"),
    (enrollment(deviceIdentitySha256Base64url="z"), "deviceIdentitySha256Base64url must be"),
]


@pytest.mark.parametrize("payload", GOOD)
def test_what_a_backend_asks_is_signed(payload: dict[str, Any]) -> None:
    check_payload(payload, NOW)


@pytest.mark.parametrize(("payload", "words"), BAD)
def test_anything_else_is_refused_with_the_part_that_is_wrong(
    payload: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadPayload) as refused:
        check_payload(payload, NOW)
    assert str(refused.value).startswith(f"invalid device key payload: {words}")
