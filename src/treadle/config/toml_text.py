"""TOML with places: parse a text, and find where a key's value stands in it.

The standard parser tells no places of values, so a line scanner finds them; it runs only once a
fault is known. Pure: knows texts, not files.
"""

import re
import tomllib
from typing import Any

from treadle.config.errors import ConfigError, TextPosition, TextRange
from treadle.config.key_path import split_key_path

_PLACE = r"\(at line (\d+), column (\d+)\)$"
_HEADER = r"\s*\[\[?(?P<name>[^\]]+?)\]\]?\s*(?:#.*)?$"
_ASSIGNMENT = (
    r"\s*(?P<key>(?:[A-Za-z0-9_.\- \t]|\"(?:[^\"\\]|\\.)*\"|'[^']*')+?)\s*=\s*(?P<value>.*)$"
)
_SCALAR = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s#,\]}]+"


def parse_toml(text: str, path: str) -> dict[str, Any]:
    """The tables of a file's text.

    Raises:
        ConfigError: the text is no TOML; `path` and the place are in the error.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(_PLACE, message)
        if place is None:
            line = text.count("\n") + 1
            position = TextPosition(line, len(text) - (text.rfind("\n") + 1) + 1)
        else:
            position = TextPosition(int(place[1]), int(place[2]))
        reason = message.split(" (at ")[0]
        raise ConfigError(
            reason, kind="syntax", path=path, range=TextRange(position, position)
        ) from error


def locate(text: str, key: tuple[str, ...]) -> TextRange | None:
    """Where the value at `key` stands, or the value or table header that holds it; None if nowhere.

    Exact for values on one line; of a value over several lines the first line counts.
    """
    table: tuple[str, ...] = ()
    best: tuple[int, TextRange] | None = None
    closing: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if closing is not None:
            closing = None if closing in line else closing
            continue
        if header := re.match(_HEADER, line):
            table = _segments(header["name"])
            best = _better(best, key, table, _range(number, header.span("name")))
            continue
        if not (assignment := re.match(_ASSIGNMENT, line)):
            continue
        path = table + _segments(assignment["key"])
        value, start = assignment["value"], assignment.start("value")
        best = _better(best, key, path, _value_range(number, value, start, key[len(path) :]))
        closing = _left_open(value)
    return best[1] if best else None


def _better(
    best: tuple[int, TextRange] | None,
    key: tuple[str, ...],
    path: tuple[str, ...],
    found: TextRange,
) -> tuple[int, TextRange] | None:
    if not path or key[: len(path)] != path or (best is not None and best[0] >= len(path)):
        return best
    return len(path), found


def _segments(text: str) -> tuple[str, ...]:
    try:
        return split_key_path(text)
    except ValueError:
        return ()


def _left_open(value: str) -> str | None:
    for quotes in ('"""', "'''"):
        if value.startswith(quotes) and quotes not in value[3:]:
            return quotes
    return None


def _value_range(line: int, value: str, start: int, rest: tuple[str, ...]) -> TextRange:
    if rest and value.startswith("{"):
        member = re.search(rf"\b{re.escape(rest[0])}\s*=\s*", value)
        if member:
            return _value_range(line, value[member.end() :], start + member.end(), rest[1:])
    scalar = None if value.startswith(("[", "{")) else re.match(_SCALAR, value)
    text = scalar[0] if scalar else value.split("#")[0].rstrip()
    return _range(line, (start, start + max(len(text), 1)))


def _range(line: int, span: tuple[int, int]) -> TextRange:
    start = TextPosition(line, span[0] + 1)
    return TextRange(start, TextPosition(line, max(span[1], start.column)))
