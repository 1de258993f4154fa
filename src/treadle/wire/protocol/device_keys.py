"""Parameters of `device/key/*` (protocol 0.129.0)."""

from typing import Literal

import msgspec

from treadle.domain.items import Shape


class DeviceKeyCreateParams(Shape, kw_only=True):
    """Parameters of `device/key/create`."""

    account_user_id: str
    client_id: str
    protection_policy: Literal["hardware_only", "allow_os_protected_nonextractable"] | None = None


class DeviceKeyPublicParams(Shape, kw_only=True):
    """Parameters of `device/key/public`."""

    key_id: str


class ConnectionPayload(Shape, kw_only=True, tag="remoteControlClientConnection"):
    """What a controlling client signs to connect."""

    nonce: str
    audience: Literal["remote_control_client_websocket"]
    session_id: str
    target_origin: str
    target_path: str
    account_user_id: str
    client_id: str
    token_expires_at: int
    token_sha256_base64url: str = msgspec.field(name="tokenSha256Base64url")
    scopes: list[str]


class EnrollmentPayload(Shape, kw_only=True, tag="remoteControlClientEnrollment"):
    """What a controlling client signs to enrol."""

    nonce: str
    audience: Literal["remote_control_client_enrollment"]
    challenge_id: str
    target_origin: str
    target_path: str
    account_user_id: str
    client_id: str
    device_identity_sha256_base64url: str = msgspec.field(name="deviceIdentitySha256Base64url")
    challenge_expires_at: int


class DeviceKeySignParams(Shape, kw_only=True):
    """Parameters of `device/key/sign`."""

    key_id: str
    payload: ConnectionPayload | EnrollmentPayload
