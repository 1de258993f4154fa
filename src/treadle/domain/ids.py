"""Names for the identifiers that travel through all layers, and the check that readers need."""

import re
from typing import NewType

ThreadId = NewType("ThreadId", str)
TurnId = NewType("TurnId", str)
ItemId = NewType("ItemId", str)

_BARE_LENGTH = 32
_UUID = r"(?:urn:uuid:)?(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in a form that the protocol accepts (hyphenated, bare or urn)."""
    return re.fullmatch(_UUID, text) is not None


def explain_bad_uuid(text: str) -> str | None:
    """What is wrong with `text` as a UUID, in the references' words; None when nothing is."""
    if is_uuid(text):
        return None
    for position, char in enumerate(text, 1):
        if char not in "0123456789abcdefABCDEF-":
            return (
                "invalid character: expected an optional prefix of `urn:uuid:` followed by "
                f"[0-9a-fA-F-], found `{char}` at {position}"
            )
    return f"invalid length: expected length {_BARE_LENGTH} for simple format, found {len(text)}"
