"""Number ranges that the protocol's parameters promise."""

from typing import Annotated

from msgspec import Meta

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
