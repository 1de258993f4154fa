"""Something that is made, and whose modules are loaded, when it is first asked for.

What few clients need costs a start nothing this way. Knows nothing of what it makes.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Late(Generic[T]):
    """Stands for the one thing that `make` gives; call it to have the thing."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Call `make` once, at the first use."""
        self._make = make
        self._made: tuple[T] | None = None

    def __call__(self) -> T:
        """The thing."""
        if self._made is None:
            self._made = (self._make(),)
        return self._made[0]

    @property
    def made(self) -> T | None:
        """The thing, or None as long as nobody asked for it."""
        return self._made[0] if self._made is not None else None
