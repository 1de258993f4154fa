"""Device keys: P-256 signing keys that say which machine speaks (protocol 0.129.0, seed 003).

Software keys in the home folder, private to the user. Their protection class says what they are:
kept by the operating system's file permissions, not by hardware. A caller that wants hardware is
refused. What is signed is returned, so that verifiers check those very bytes.
"""

import base64
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

from treadle.domain.device_keys import DeviceKey, Signature
from treadle.domain.device_payloads import BadPayload, check_payload
from treadle.engine.services.errors import Refused
from treadle.kit.clock import Clock

DOMAIN = "codex-device-key-sign-payload/v1"
"""Wraps every signed payload, so that a signature is good for nothing else."""

_KEY_ID = r"dk_(?:hse|tpm|osn)_([A-Za-z0-9_-]{43})"
_MALFORMED_ID = (
    "invalid device key payload: keyId must be dk_hse_, dk_tpm_, or dk_osn_ "
    "followed by unpadded base64url-encoded 32 bytes"
)


class DeviceKeys:
    """The keys of one home folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Keep keys in `folder`, which is made when the first key is."""
        self._folder = folder
        self._clock = clock

    def create(self, account_user_id: str, client_id: str, policy: str | None) -> DeviceKey:
        """A new key bound to an account and a client.

        Raises:
            Refused: hardware protection was asked for (the protocol's default), or a name is empty.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        for name, value in (("accountUserId", account_user_id), ("clientId", client_id)):
            if not value:
                raise Refused(f"invalid device key payload: {name} must not be empty")
        if policy != "allow_os_protected_nonextractable":
            raise Refused(
                "hardware-backed device keys are not available on this platform; "
                "ask with protectionPolicy allow_os_protected_nonextractable"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        key_id = f"dk_osn_{_unpadded(secrets.token_bytes(32))}"
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        binding = {"accountUserId": account_user_id, "clientId": client_id, "pem": pem.decode()}
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path(key_id), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(binding, file)
        return self.public(key_id)

    def public(self, key_id: str) -> DeviceKey:
        """The public side of a key; raises Refused for a malformed or unknown id."""
        from cryptography.hazmat.primitives import serialization

        der = (
            self._load(key_id)[0]
            .public_key()
            .public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return DeviceKey(key_id=key_id, public_key_spki_der_base64=base64.b64encode(der).decode())

    def sign(self, key_id: str, payload: dict[str, Any]) -> Signature:
        """Sign a payload of the protocol with a key that is bound to the payload's names.

        Raises:
            Refused: malformed or unknown id, malformed payload, or a key of somebody else.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        self._check_id(key_id)
        try:
            check_payload(payload, self._clock.now())
        except BadPayload as error:
            raise Refused(str(error)) from None
        key, binding = self._load(key_id)
        for name in ("accountUserId", "clientId"):
            if payload.get(name) != binding[name]:
                raise Refused(f"invalid device key payload: the key is bound to another {name}")
        wrapped = {"domain": DOMAIN, "payload": payload}
        signed = json.dumps(wrapped, sort_keys=True, separators=(",", ":")).encode()
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return Signature(
            signature_der_base64=base64.b64encode(signature).decode(),
            signed_payload_base64=base64.b64encode(signed).decode(),
        )

    def _path(self, key_id: str) -> Path:
        return self._folder / f"{key_id}.json"

    def _check_id(self, key_id: str) -> None:
        if re.fullmatch(_KEY_ID, key_id) is None:
            raise Refused(_MALFORMED_ID)

    def _load(self, key_id: str) -> tuple[Any, dict[str, str]]:
        from cryptography.hazmat.primitives import serialization

        self._check_id(key_id)
        try:
            binding = json.loads(self._path(key_id).read_text(encoding="ascii"))
        except FileNotFoundError:
            raise Refused("device key not found") from None
        return serialization.load_pem_private_key(binding["pem"].encode(), None), binding


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
