"""Dotted key paths such as `projects."/a.b".trust_level`, and values given as TOML text.

Pure functions, shared by flags, requests that write and the search for a key's place in a file.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from treadle.config.errors import FlagError
from treadle.config.feature_names import FEATURE_NAMES

_BARE = r"[^.\"'\s]+(?:[ \t]+[^.\"'\s]+)*"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'"


def split_key_path(text: str) -> tuple[str, ...]:
    """The segments of a dotted path; quoted segments may hold dots.

    Raises:
        ValueError: the path or one of its segments is empty, or a quote is not closed.
    """
    if not text.strip():
        raise ValueError("keyPath must not be empty")
    segments: list[str] = []
    position = 0
    while True:
        segment, position = _take_segment(text, position)
        segments.append(segment)
        if position == len(text):
            return tuple(segments)
        if text[position] != ".":
            raise ValueError(f"keyPath has an unexpected `{text[position]}` after `{segment}`")
        position += 1


def _take_segment(text: str, start: int) -> tuple[str, int]:
    while start < len(text) and text[start] in " \t":
        start += 1
    if quoted := re.compile(_QUOTED).match(text, start):
        value, end = _unquote(quoted[0]), quoted.end()
    elif bare := re.compile(_BARE).match(text, start):
        value, end = bare[0], bare.end()
    elif start < len(text) and text[start] in "\"'":
        raise ValueError("keyPath has an unclosed quote")
    else:
        raise ValueError("keyPath segments must not be empty")
    while end < len(text) and text[end] in " \t":
        end += 1
    return value, end


def _unquote(text: str) -> str:
    if text[0] == "'":
        return text[1:-1]
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError as error:
        raise ValueError(f"keyPath has a quoted segment that cannot be read: {text}") from error


def nest(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A table of tables with `value` at `path`."""
    result: object = value
    for segment in reversed(path):
        result = {segment: result}
    return cast("dict[str, Any]", result)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables in one: tables merge key by key, anything else of `over` replaces."""
    result = dict(base)
    for key, value in over.items():
        below: Any = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merge(cast("Mapping[str, Any]", below), cast("Mapping[str, Any]", value))
        else:
            result[key] = value
    return result


def parse_flag(text: str) -> dict[str, Any]:
    """The table of one `key=value` of the command line; text that is no TOML value is a string.

    Raises:
        FlagError: no key or no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise FlagError(f"error parsing -c overrides: Invalid override (missing '='): {text}")
    if not key.strip():
        raise FlagError(f"error parsing -c overrides: Empty key in override: {text}")
    try:
        path = split_key_path(key)
    except ValueError as error:
        raise FlagError(f"error parsing -c overrides: {error}: {text}") from error
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip().strip("\"'")
    return nest(path, parsed)


def flags_table(
    overrides: Iterable[str], enable: Iterable[str] = (), disable: Iterable[str] = ()
) -> dict[str, Any]:
    """The session layer of a command line: every `-c`, `--enable` and `--disable` in order.

    Raises:
        FlagError: one of the `-c` texts cannot be read, or no feature has such a name.
    """
    table: dict[str, Any] = {}
    for text in overrides:
        table = merge(table, parse_flag(text))
    enable, disable = tuple(enable), tuple(disable)
    _check_features((*enable, *disable))
    for name in enable:
        table = merge(table, {"features": {name: True}})
    for name in disable:
        table = merge(table, {"features": {name: False}})
    return table


def _check_features(names: Iterable[str]) -> None:
    for name in names:
        if name not in FEATURE_NAMES:
            import difflib

            close = difflib.get_close_matches(name, FEATURE_NAMES, 1)
            advice = f"; did you mean `{close[0]}`?" if close else ""
            raise FlagError(f"there is no feature `{name}`{advice}")


def dotted_table(values: Mapping[str, Any]) -> dict[str, Any]:
    """A request's `config` map, whose keys may be dotted, as one table; nulls are left out."""
    table: dict[str, Any] = {}
    for key, value in values.items():
        if value is None:
            continue
        try:
            path = split_key_path(key)
        except ValueError:
            path = (key,)
        table = merge(table, nest(path, value))
    return table


def without_nulls(value: object) -> Any:
    """The JSON value with null members of objects and lists left out: TOML has no null."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {key: without_nulls(item) for key, item in members.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in cast("list[object]", value) if item is not None]
    return value
