"""Layers of configuration: which exist, which wins, and where each value comes from.

Pure: takes tables, gives tables. Owns precedence, versions and origins. Refuses to know files
(`load` reads them) and what the keys mean (`settings`).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from typing import Any, cast

import msgspec

from treadle.config.errors import ConfigError, ConfigProblem
from treadle.config.key_path import merge
from treadle.config.keys import PROJECT_MAY_NOT_SET, ROOT, FeatureFault
from treadle.config.schema import Path, ValueFault
from treadle.config.toml_text import locate


class Layer(msgspec.Struct, frozen=True):
    """One source of values.

    `name` is its protocol form. `text` is the file's text, for places in messages. A disabled
    layer is listed but does not count. `dropped` are keys that this kind of layer may not set.
    """

    name: Mapping[str, Any]
    table: Mapping[str, Any]
    text: str | None = None
    path: str | None = None
    disabled_reason: str | None = None
    dropped: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """What tells it from the layer before or after a change (see `version_of`)."""
        return version_of(self.table)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name and version, as origins carry them."""
        return {"name": dict(self.name), "version": self.version}

    @property
    def label(self) -> str:
        """The layer as warnings call it: `user (/home/me/.treadle/config.toml)`."""
        kind = {"sessionFlags": "session-flags"}.get(self.name["type"], self.name["type"])
        return f"{kind} ({self.path})" if self.path else str(kind)


def version_of(table: Mapping[str, Any]) -> str:
    """A table's version: a hash of its canonical JSON, so that equal tables have equal versions."""
    import hashlib
    import json

    text = json.dumps(
        table, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    )
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    raise TypeError(f"no TOML value: {type(value).__name__}")


def jsonable(value: object) -> Any:
    """A TOML value with dates as texts, fit for JSON."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {key: jsonable(item) for key, item in members.items()}
    if isinstance(value, list):
        return [jsonable(item) for item in cast("list[object]", value)]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return value


def make_layer(
    name: Mapping[str, Any],
    table: Mapping[str, Any],
    *,
    text: str | None = None,
    path: str | None = None,
    disabled_reason: str | None = None,
) -> Layer:
    """A layer with its version; keys that a project may not set are left out of a project's."""
    dropped: tuple[str, ...] = ()
    if name["type"] == "project":
        dropped = tuple(sorted(key for key in table if key in PROJECT_MAY_NOT_SET))
        table = {key: value for key, value in table.items() if key not in dropped}
    table = cast("Mapping[str, Any]", jsonable(table))
    return Layer(name, table, text, path, disabled_reason, dropped)


class Stack(msgspec.Struct, frozen=True):
    """All layers of one place, highest first."""

    layers: tuple[Layer, ...]

    @property
    def active(self) -> tuple[Layer, ...]:
        """The layers that count, highest first."""
        return tuple(layer for layer in self.layers if layer.disabled_reason is None)

    def effective(self) -> dict[str, Any]:
        """The merged table."""
        return merge_layers(self.active)

    def origin(self, key: Path) -> Layer | None:
        """The highest layer that has a value at `key`; None when it is a default."""
        for layer in self.active:
            if has(layer.table, key):
                return layer
        return None

    def origins(self) -> dict[str, dict[str, Any]]:
        """Dotted leaf path to the layer it comes from; items of lists count as leaves."""
        found: dict[str, dict[str, Any]] = {}
        for layer in reversed(self.active):
            metadata = layer.metadata
            for key in leaves(layer.table):
                found[".".join(key)] = metadata
        return found

    def check(self) -> None:
        """Raise ConfigError for the first value that its key does not take, highest layer first."""
        for layer in self.active:
            check_layer(layer)

    def problems(self) -> list[ConfigProblem]:
        """Warnings: keys a project may not set, and keys that nobody knows."""
        found = [_dropped_problem(layer) for layer in self.active if layer.dropped]
        unknown = [
            f"  {layer.label}: `{'.'.join(key)}` is ignored."
            for layer in reversed(self.active)
            for key in unknown_keys(layer.table)
        ]
        if unknown:
            found.append(ConfigProblem(_unknown_summary(unknown)))
        return found


def _dropped_problem(layer: Layer) -> ConfigProblem:
    return ConfigProblem(
        f"Ignored unsupported project-local config keys in {layer.path}:"
        f" {', '.join(layer.dropped)}. If you want these settings to apply, manually set them in"
        " your user-level config.toml."
    )


def _unknown_summary(lines: list[str]) -> str:
    plural = "" if len(lines) == 1 else "s"
    head = (
        f"Treadle is ignoring {len(lines)} unrecognized configuration setting{plural}."
        " Check for typos or deprecated settings."
    )
    return "\n".join([head, *lines])


def merge_layers(layers: Iterable[Layer]) -> dict[str, Any]:
    """The merged table of layers given highest first."""
    table: dict[str, Any] = {}
    for layer in reversed(tuple(layers)):
        table = merge(table, layer.table)
    return table


def check_layer(layer: Layer) -> None:
    """Raise ConfigError, with the place in the layer's file, for a value its key does not take."""
    try:
        ROOT.check(layer.table, (), [])
    except ValueFault as fault:
        place = fault.key
        if isinstance(fault, FeatureFault):
            place = (*fault.key, fault.feature)
        found = locate(layer.text, place) if layer.text is not None else None
        raise ConfigError(
            fault.reason, kind="value", key=fault.key, path=layer.path, range=found
        ) from fault


def unknown_keys(table: Mapping[str, Any]) -> list[Path]:
    """The keys of a valid table that nobody knows."""
    unknown: list[Path] = []
    ROOT.check(table, (), unknown)
    return sorted(unknown)


def has(table: Mapping[str, Any], key: Path) -> bool:
    """Whether the table holds a value at `key`."""
    value: Any = table
    for segment in key:
        if not isinstance(value, Mapping) or segment not in value:
            return False
        value = cast("Any", value[segment])
    return True


def section(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table at `key`, an empty one when there is none."""
    return as_table(table.get(key))


def as_table(value: Any) -> Mapping[str, Any]:
    """`value` if it is a table, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def get(table: Mapping[str, Any], key: Path) -> Any:
    """The value at `key`, or None."""
    value: Any = table
    for segment in key:
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(segment)
    return value


def leaves(value: object, above: Path = ()) -> Iterator[Path]:
    """The paths of all scalars below `value`; positions in lists are segments."""
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield from leaves(item, (*above, key))
    elif isinstance(value, list):
        for position, item in enumerate(cast("list[object]", value)):
            yield from leaves(item, (*above, str(position)))
    else:
        yield above
