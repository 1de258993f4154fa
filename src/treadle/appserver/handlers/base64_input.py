"""Bytes that clients send as base64, and the words for what is wrong with them."""

import base64
import binascii
import re

_FOREIGN = r"[^A-Za-z0-9+/=]"


def decode(text: str) -> bytes:
    """The bytes of padded standard base64; ValueError says what is wrong."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = re.search(_FOREIGN, text)
        if found is None:
            raise ValueError("Invalid padding") from None
        symbol = found[0].encode()[0]
        offset = len(text[: found.start()].encode())
        raise ValueError(f"Invalid symbol {symbol}, offset {offset}.") from None
