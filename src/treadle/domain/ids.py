"""Names for the identifiers that travel through all layers, and the check that readers need."""

from typing import NewType

ThreadId = NewType("ThreadId", str)
TurnId = NewType("TurnId", str)
ItemId = NewType("ItemId", str)

_BARE_LENGTH = 32
_HEX = frozenset("0123456789abcdefABCDEF")
_HYPHENS = (8, 13, 18, 23)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in a form that the protocol accepts (hyphenated, bare or urn)."""
    digits = text.removeprefix("urn:uuid:")
    if len(digits) == _BARE_LENGTH + len(_HYPHENS) and all(digits[at] == "-" for at in _HYPHENS):
        digits = digits.replace("-", "")
    return len(digits) == _BARE_LENGTH and _HEX.issuperset(digits)


def explain_bad_uuid(text: str) -> str | None:
    """What is wrong with `text` as a UUID, in the references' words; None when nothing is."""
    if is_uuid(text):
        return None
    for position, char in enumerate(text, 1):
        if char not in _HEX and char != "-":
            return (
                "invalid character: expected an optional prefix of `urn:uuid:` followed by "
                f"[0-9a-fA-F-], found `{char}` at {position}"
            )
    return f"invalid length: expected length {_BARE_LENGTH} for simple format, found {len(text)}"
