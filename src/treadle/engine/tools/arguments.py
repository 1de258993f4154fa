"""Reading the arguments that a model wrote, and saying what is wrong with them."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


class BadArguments(Exception):
    """The arguments cannot be used; the text is for the model."""


def read_arguments(text: str, shape: type[T]) -> T:
    """Decode the JSON arguments of a call.

    Raises:
        BadArguments: not JSON, or not of this shape.
    """
    try:
        return msgspec.json.decode(text or "{}", type=shape)
    except (msgspec.DecodeError, UnicodeError) as error:
        reason = str(error)
        reason = f"{reason[:1].lower()}{reason[1:]}"
        raise BadArguments(f"failed to parse function arguments: {reason}") from error
