"""A table in parts, each loaded when something is asked for that those before it do not have.

The parts that every process needs come first, so that what few need costs only them.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

Row = TypeVar("Row")


class LateTable(Mapping[str, Row]):
    """One mapping made of several; whoever walks through it has all of them loaded."""

    def __init__(self, *parts: Callable[[], Mapping[str, Row]]) -> None:
        """`parts` give the rows, which have different names; each is called once at most."""
        self._rest = list(parts)
        self._rows: dict[str, Row] = {}

    def __getitem__(self, name: str) -> Row:
        while name not in self._rows and self._rest:
            self._load_next()
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        while self._rest:
            self._load_next()
        return iter(self._rows)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _load_next(self) -> None:
        self._rows.update(self._rest[0]())
        del self._rest[0]
