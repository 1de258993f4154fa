"""Decodes parameters, and says what is wrong with them in the words the references use.

The texts follow those of the references' own decoder (protocol 0.129.0 and 0.169.0: "missing field
`x`", "invalid type: string "a", expected u32", "unknown variant `x`, expected one of ..."), because
clients match on them. Owns no method and no type.
"""

import re
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec

from treadle.wire.protocol.errors import RpcError, invalid_request

_MISSING = r"^Object missing required field `([^`]*)`"
_EXPECTED = r"^Expected `([^`]*)`, got `([^`]*)`"
_PATH = r" - at `\$(.*)`$"
_STEP = r"\.([^.\[]+)|\[(\d+)\]"

_EXPECTED_NAMES = {
    "str": "a string",
    "int": "u32",
    "bool": "a boolean",
    "float": "f64",
    "array": "a sequence",
    "object": "a map",
}


@cache
def _decoder(params: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(params)


def decode_params(raw: bytes | None, params: Any) -> Any:
    """Parameters of type `params` from their raw JSON.

    Raises:
        RpcError: -32600 "Invalid request: ..." saying which field is wrong.
    """
    if raw is None:
        raise invalid_request("Invalid request: missing field `params`")
    try:
        return _decoder(params).decode(raw)
    except msgspec.ValidationError as error:
        raise _explain(str(error), raw, params) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid_request(f"Invalid request: {error}") from None


def check_no_params(raw: bytes | None) -> None:
    """Methods without parameters take none, null or an empty object; raises RpcError otherwise."""
    if raw is None or raw.strip() == b"{}":
        return
    shown = describe(msgspec.json.decode(raw))
    raise invalid_request(f"Invalid request: invalid type: {shown}, expected unit")


def describe(value: Any) -> str:
    """A JSON value in the words of the references' decoder."""
    match value:
        case bool():
            return f"boolean `{str(value).lower()}`"
        case None:
            return "null"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f"string {msgspec.json.encode(value).decode()}"
        case list():
            return "sequence"
        case _:
            return "map"


def _explain(text: str, raw: bytes, params: Any) -> RpcError:
    found = re.search(_PATH, text)
    path = found[1] if found else ""
    text = text[: found.start()] if found else text
    if missing := re.match(_MISSING, text):
        return invalid_request(f"Invalid request: missing field `{missing[1]}`")
    value = _value_at(msgspec.json.decode(raw), path)
    if text.startswith(("Invalid enum value", "Invalid value")):
        variants = _variants_at(params, path, value)
        listed = ", ".join(f"`{name}`" for name in variants)
        expected = f", expected one of {listed}" if listed else ""
        shown = value if isinstance(value, str) else describe(value)
        return invalid_request(f"Invalid request: unknown variant `{shown}`{expected}")
    if expected := re.match(_EXPECTED, text):
        name = expected[1].removesuffix(" | null").split(" | ")[0]
        wanted = _EXPECTED_NAMES.get(name, f"a value of type {name}")
        return invalid_request(
            f"Invalid request: invalid type: {describe(value)}, expected {wanted}"
        )
    if text.startswith(("Expected `int` >=", "Expected `int` <=", "Integer value out of range")):
        return invalid_request(f"Invalid request: invalid value: {describe(value)}, expected u32")
    return invalid_request(f"Invalid request: {text}")


def _value_at(value: Any, path: str) -> Any:
    for name, index in re.findall(_STEP, path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _variants_at(params: Any, path: str, value: Any) -> list[str]:
    """The names that would have been right at `path`: of a literal or of a union's tag."""
    here = params
    steps = re.findall(_STEP, path)
    for position, (name, _index) in enumerate(steps):
        last = position == len(steps) - 1
        if name == "type" and last and (tags := _tags(here)):
            return tags
        here = _member(here, name)
    return _literals(here) or _tags(here)


def _member(kind: Any, name: str) -> Any:
    for option in _options(kind):
        if name and isinstance(option, type) and issubclass(option, msgspec.Struct):
            for field in msgspec.structs.fields(option):
                if field.encode_name == name:
                    return field.type
        if not name and get_origin(option) in (list, tuple):
            return get_args(option)[0]
    return None


def _options(kind: Any) -> tuple[Any, ...]:
    inner = get_args(kind)
    return inner if inner and get_origin(kind) not in (list, tuple, dict, Literal) else (kind,)


def _literals(kind: Any) -> list[str]:
    return [
        v for option in _options(kind) if get_origin(option) is Literal for v in get_args(option)
    ]


def _tags(kind: Any) -> list[str]:
    configs = [getattr(option, "__struct_config__", None) for option in _options(kind)]
    return [str(config.tag) for config in configs if config is not None and config.tag is not None]
