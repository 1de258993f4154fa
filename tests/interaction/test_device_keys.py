"""Device keys over the protocol: seed 003's texts, and signatures that verify."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from treadle import InProcessOptions, InProcessServer, RpcError

MALFORMED = (
    "invalid device key payload: keyId must be dk_hse_, dk_tpm_, or dk_osn_ "
    "followed by unpadded base64url-encoded 32 bytes"
)
DIGEST = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
CONNECTION = {
    "type": "remoteControlClientConnection",
    "nonce": "A" * 43,
    "audience": "remote_control_client_websocket",
    "sessionId": "wssess_123",
    "targetOrigin": "https://chatgpt.com",
    "targetPath": "/api/codex/remote/control/client",
    "accountUserId": "acct_123",
    "clientId": "cli_123",
    "tokenExpiresAt": 4_102_444_800,
    "tokenSha256Base64url": DIGEST,
    "scopes": ["remote_control_controller_websocket"],
}
ENROLLMENT = {
    "type": "remoteControlClientEnrollment",
    "nonce": "A" * 43,
    "audience": "remote_control_client_enrollment",
    "challengeId": "rch_123",
    "targetOrigin": "https://chatgpt.com",
    "targetPath": "/wham/remote/control/client/enroll",
    "accountUserId": "acct_123",
    "clientId": "cli_123",
    "deviceIdentitySha256Base64url": DIGEST,
    "challengeExpiresAt": 4_102_444_800,
}


def soon(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload with an end that is near enough."""
    name = "tokenExpiresAt" if "tokenExpiresAt" in payload else "challengeExpiresAt"
    return {**payload, name: int(time.time()) + 60}


def options(tmp_path: Path) -> InProcessOptions:
    home = tmp_path / "home"
    home.mkdir()
    return InProcessOptions(home=str(home), experimental=False)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("device/key/public", {"keyId": ""}),
        ("device/key/sign", {"keyId": "", "payload": CONNECTION}),
        ("device/key/sign", {"keyId": "", "payload": ENROLLMENT}),
        ("device/key/public", {"keyId": "../config"}),
    ],
)
async def test_in_process_allows_device_key_requests_to_reach_device_key_api(
    tmp_path: Path, method: str, params: dict[str, Any]
) -> None:
    async with InProcessServer(options(tmp_path)) as server:
        with pytest.raises(RpcError) as refused:
            await server.request(method, params)
        assert (refused.value.code, refused.value.message) == (-32600, MALFORMED)


async def test_a_software_key_signs_what_its_public_side_verifies(tmp_path: Path) -> None:
    async with InProcessServer(options(tmp_path)) as server:
        asked = {"accountUserId": "acct_123", "clientId": "cli_123"}
        policy = {"protectionPolicy": "allow_os_protected_nonextractable"}
        payload = soon(CONNECTION)
        key = await server.request("device/key/create", {**asked, **policy})
        assert key["protectionClass"] == "os_protected_nonextractable"
        assert await server.request("device/key/public", {"keyId": key["keyId"]}) == key
        signed = await server.request(
            "device/key/sign", {"keyId": key["keyId"], "payload": payload}
        )
    (stored,) = (tmp_path / "home" / "device-keys").iterdir()
    assert stored.stat().st_mode & 0o777 == 0o600
    public = serialization.load_der_public_key(base64.b64decode(key["publicKeySpkiDerBase64"]))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    said = base64.b64decode(signed["signedPayloadBase64"])
    public.verify(base64.b64decode(signed["signatureDerBase64"]), said, ec.ECDSA(hashes.SHA256()))
    wrapped = json.loads(said)
    assert wrapped["domain"] == "codex-device-key-sign-payload/v1"
    assert wrapped["payload"] == payload


async def test_hardware_is_not_pretended_and_a_key_serves_its_owner_alone(tmp_path: Path) -> None:
    async with InProcessServer(options(tmp_path)) as server:
        asked = {"accountUserId": "acct_other", "clientId": "cli_123"}
        with pytest.raises(RpcError, match="hardware-backed device keys are not available"):
            await server.request("device/key/create", asked)
        policy = {"protectionPolicy": "allow_os_protected_nonextractable"}
        key = await server.request("device/key/create", {**asked, **policy})
        params = {"keyId": key["keyId"], "payload": soon(CONNECTION)}
        with pytest.raises(RpcError, match="bound to another accountUserId"):
            await server.request("device/key/sign", params)
