"""Device keys as clients see them (protocol 0.129.0)."""

from treadle.domain.items import FrozenShape

ALGORITHM = "ecdsa_p256_sha256"
PROTECTION = "os_protected_nonextractable"
"""The protocol's only class below hardware; here the operating system's file permissions."""


class DeviceKey(FrozenShape, frozen=True, kw_only=True):
    """The public side of a key."""

    key_id: str
    public_key_spki_der_base64: str
    algorithm: str = ALGORITHM
    protection_class: str = PROTECTION


class Signature(FrozenShape, frozen=True, kw_only=True):
    """A signature and exactly what it signs."""

    signature_der_base64: str
    signed_payload_base64: str
    algorithm: str = ALGORITHM
