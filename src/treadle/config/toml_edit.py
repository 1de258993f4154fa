"""Changing TOML text in place, so that comments and layout survive.

The one home of tomlkit; loaded when something is first written. Pure: text in, text out.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, cast

import tomlkit

from treadle.config.key_path import without_nulls
from treadle.config.schema import Path

MergeStrategy = Literal["replace", "upsert"]


def edit_text(text: str, key: Path, value: object, strategy: MergeStrategy) -> str:
    """The text with one value changed; None removes the key and the tables it leaves empty."""
    document: Any = tomlkit.parse(text)
    if value is None:
        _remove(document, key)
    else:
        parent = _parent(document, key)
        _set(parent, key[-1], without_nulls(value), strategy)
    return str(tomlkit.dumps(document))


def _parent(document: MutableMapping[str, Any], key: Path) -> MutableMapping[str, Any]:
    table = document
    for position, segment in enumerate(key[:-1]):
        below = table.get(segment)
        if not isinstance(below, MutableMapping):
            # A header for each table on the way would be noise: only the last one gets it.
            below = tomlkit.table(is_super_table=position < len(key) - 2)
            table[segment] = below
            below = table[segment]
        table = cast("MutableMapping[str, Any]", below)
    return table


def _set(
    table: MutableMapping[str, Any], name: str, value: object, strategy: MergeStrategy
) -> None:
    below = table.get(name)
    if strategy == "upsert" and isinstance(value, Mapping) and isinstance(below, MutableMapping):
        members = cast("MutableMapping[str, Any]", below)
        for key, item in cast("Mapping[str, object]", value).items():
            _set(members, key, item, strategy)
        return
    table[name] = value


def _remove(table: MutableMapping[str, Any], key: Path) -> bool:
    """Remove the key; true when this left the table empty."""
    name, rest = key[0], key[1:]
    below = table.get(name)
    if below is None:
        return False
    if rest and not (isinstance(below, MutableMapping) and _remove(cast("Any", below), rest)):
        return False
    del table[name]
    return not table
