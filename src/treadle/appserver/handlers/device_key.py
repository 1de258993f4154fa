"""`device/key/*`: from parameters to the device keys and back."""

import msgspec

from treadle.appserver.context import Context
from treadle.domain.device_keys import DeviceKey, Signature
from treadle.wire.protocol import device_keys as proto


async def create(context: Context, params: proto.DeviceKeyCreateParams) -> DeviceKey:
    """A new key."""
    return context.services.device_keys().create(
        params.account_user_id, params.client_id, params.protection_policy
    )


async def public(context: Context, params: proto.DeviceKeyPublicParams) -> DeviceKey:
    """The public side of a key."""
    return context.services.device_keys().public(params.key_id)


async def sign(context: Context, params: proto.DeviceKeySignParams) -> Signature:
    """A signature over one of the protocol's payloads."""
    payload = msgspec.to_builtins(params.payload)
    return context.services.device_keys().sign(params.key_id, payload)
