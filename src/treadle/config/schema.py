"""Checks of configuration values: what a key takes, said in the words clients know.

Owns the few shapes that configuration is made of. Which key has which shape is in `keys`. Pure.
"""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import msgspec

Path = tuple[str, ...]

_INTEGERS = {
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u64": (0, 2**64 - 1),
    "usize": (0, 2**64 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
}


class ValueFault(ValueError):
    """A value that its key does not take."""

    def __init__(self, key: Path, reason: str) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason


class Shape(Protocol):
    """What a key takes."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Raise ValueFault unless `value` fits; add the keys nobody knows to `unknown`."""
        ...


def describe(value: object) -> str:
    """A value as messages name it: integer `5`, string "x", map."""
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f'string "{value}"'
    if isinstance(value, Mapping):
        return "map"
    if isinstance(value, list):
        return "sequence"
    return "datetime"


def mismatch(value: object, expected: str, key: Path) -> ValueFault:
    """The fault of a value of the wrong type."""
    return ValueFault(key, f"invalid type: {describe(value)}, expected {expected}")


class Anything(msgspec.Struct, frozen=True):
    """Any value: for parts that are kept and handed on, not used."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Nothing is refused."""


class Text(msgspec.Struct, frozen=True):
    """A string."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse anything but a string."""
        if not isinstance(value, str):
            raise mismatch(value, "a string", key)


class Flag(msgspec.Struct, frozen=True):
    """A boolean."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse anything but true and false."""
        if not isinstance(value, bool):
            raise mismatch(value, "a boolean", key)


class Whole(msgspec.Struct, frozen=True):
    """An integer within the bounds of the named machine type."""

    kind: str = "u64"

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse other types and integers out of bounds."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise mismatch(value, self.kind, key)
        low, high = _INTEGERS[self.kind]
        if not low <= value <= high:
            raise ValueFault(key, f"invalid value: integer `{value}`, expected {self.kind}")


class Number(msgspec.Struct, frozen=True):
    """A number, whole or not."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse anything but numbers."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise mismatch(value, "f64", key)


class OneOf(msgspec.Struct, frozen=True):
    """One of the named strings."""

    names: tuple[str, ...]

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse other strings and other types."""
        if not isinstance(value, str):
            raise ValueFault(key, "invalid type: unit variant, expected string only")
        if value not in self.names:
            raise ValueFault(key, unknown_variant(value, self.names))


def unknown_variant(value: str, names: tuple[str, ...]) -> str:
    """The message about a name that is none of `names`."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) == 1:
        expected = quoted[0]
    elif len(quoted) == 2:
        expected = " or ".join(quoted)
    else:
        expected = "one of " + ", ".join(quoted)
    return f"unknown variant `{value}`, expected {expected}"


class ListOf(msgspec.Struct, frozen=True):
    """A list whose items all have one shape."""

    item: Shape

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse other types, then check each item."""
        if not isinstance(value, list):
            raise mismatch(value, "a sequence", key)
        for item in cast("list[object]", value):
            self.item.check(item, key, unknown)


class MapOf(msgspec.Struct, frozen=True):
    """A table with free names whose values all have one shape; `inner` faults name the table."""

    value: Shape
    names_itself: bool = False

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse other types, then check each member."""
        if not isinstance(value, Mapping):
            raise mismatch(value, "a map", key)
        for name, item in cast("Mapping[str, object]", value).items():
            try:
                self.value.check(item, (*key, name), unknown)
            except ValueFault as fault:
                if not self.names_itself:
                    raise
                raise ValueFault((*key, name), fault.reason) from fault


class Table(msgspec.Struct, frozen=True):
    """A table with known names; others are unknown, or, with `rest`, have that shape."""

    name: str
    members: Mapping[str, Shape]
    rest: Shape | None = None
    required: tuple[str, ...] = ()

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse other types, check each member, collect the names nobody knows."""
        if not isinstance(value, Mapping):
            raise mismatch(value, f"struct {self.name}", key)
        table = cast("Mapping[str, object]", value)
        for name, item in table.items():
            shape = self.members.get(name, self.rest)
            if shape is None:
                unknown.append((*key, name))
            else:
                shape.check(item, (*key, name), unknown)
        for name in self.required:
            if name not in table:
                raise ValueFault(key, f"missing field `{name}`")


class Either(msgspec.Struct, frozen=True):
    """The first shape that fits; `reason` is said when none does."""

    shapes: tuple[Shape, ...]
    reason: str

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Refuse what fits none of the shapes."""
        for shape in self.shapes:
            found: list[Path] = []
            try:
                shape.check(value, key, found)
            except ValueFault:
                continue
            unknown.extend(found)
            return
        raise ValueFault(key, self.reason)


def string_or(table: Shape, names: tuple[str, ...]) -> "StringOr":
    """A named string, or a table of the given shape."""
    return StringOr(OneOf(names), table)


class StringOr(msgspec.Struct, frozen=True):
    """A named string, or a table; anything else is told as the string would tell it."""

    string: OneOf
    table: Shape

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        """Check by whichever form the value has."""
        shape: Any = self.table if isinstance(value, Mapping) else self.string
        shape.check(value, key, unknown)
