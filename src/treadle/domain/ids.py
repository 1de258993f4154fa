"""Names for the identifiers that travel through all layers, and the check that readers need."""

import uuid
from typing import NewType

ThreadId = NewType("ThreadId", str)
TurnId = NewType("TurnId", str)
ItemId = NewType("ItemId", str)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in a form that the protocol accepts (hyphenated, bare or urn)."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
