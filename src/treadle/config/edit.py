"""Writing the user's configuration file on a client's request: checked, whole or not at all.

Owns the order of checks, the refusal codes and the replacement of the file. What a value may be is
decided by `keys`, how text changes by `toml_edit`.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.config.errors import ConfigError
from treadle.config.key_path import split_key_path
from treadle.config.layers import Layer, check_layer, get, make_layer, version_of
from treadle.config.providers import check_providers
from treadle.config.schema import Path as KeyPath
from treadle.config.store import ConfigStore
from treadle.config.toml_text import parse_toml
from treadle.kit.mint import new_id

WriteCode = Literal[
    "configLayerReadonly",
    "configVersionConflict",
    "configValidationError",
    "configPathNotFound",
    "configSchemaUnknownKey",
    "userLayerNotFound",
]
_ATTEMPTS = 5


class ConfigWriteError(Exception):
    """The write is refused and nothing was written; `code` goes into the error's data."""

    def __init__(self, code: WriteCode, message: str) -> None:
        super().__init__(message)
        self.code: WriteCode = code


class Edit(msgspec.Struct, frozen=True):
    """One change: `value` None removes the key; upsert merges tables, replace overwrites them."""

    key_path: str
    value: Any
    merge_strategy: Literal["replace", "upsert"] = "replace"


class WriteOutcome(msgspec.Struct, frozen=True):
    """What was written, and what hides it: `overridden` in protocol form, None if nothing does."""

    version: str
    file_path: str
    overridden: dict[str, Any] | None

    @property
    def reply(self) -> dict[str, Any]:
        """The protocol's answer."""
        return {
            "status": "okOverridden" if self.overridden else "ok",
            "version": self.version,
            "filePath": self.file_path,
            "overriddenMetadata": self.overridden,
        }


def write_config(
    store: ConfigStore,
    edits: Sequence[Edit],
    *,
    file_path: str | None = None,
    expected_version: str | None = None,
) -> WriteOutcome:
    """Apply the edits in order to the user's file, all or none.

    `expected_version` is the version of the user's layer that the caller has seen. Blocks on the
    disk: call it from a worker thread where that matters.

    Raises:
        ConfigWriteError: refused; the file is as it was.
        OSError: the file cannot be written; the file is as it was.
    """
    keys = [_parse_key(edit.key_path) for edit in edits]
    target = store.user_file
    if file_path is not None and not _same_file(Path(file_path), target):
        raise ConfigWriteError("configLayerReadonly", "Only writes to the user config are allowed")
    for _ in range(_ATTEMPTS):
        before = _read(store)
        after, table = _edited(before, edits, keys, str(target), expected_version)
        if after == before or _replace(target, before, after):
            return WriteOutcome(version_of(table), str(target), _overridden(store, keys))
    raise ConfigWriteError(
        "configVersionConflict",
        f"{target} is being changed by others. Fetch latest version and retry.",
    )


def _parse_key(text: str) -> KeyPath:
    try:
        key = split_key_path(text)
    except ValueError as error:
        raise ConfigWriteError("configValidationError", str(error)) from error
    if key[0] in ("profile", "profiles"):
        raise ConfigWriteError(
            "configValidationError",
            f"`{key[0]}` is a legacy config selector and can no longer be written; use"
            " `--profile <name>` with `<name>.config.toml` instead",
        )
    return key


def _same_file(path: Path, target: Path) -> bool:
    return path == target or path.resolve() == target.resolve()


def _read(store: ConfigStore) -> str:
    try:
        return store.read_text(store.user_file) or ""
    except ConfigError as error:
        raise _invalid(error.details) from error


def _invalid(reason: str) -> ConfigWriteError:
    return ConfigWriteError("configValidationError", f"Invalid configuration: {reason}")


def _edited(
    text: str,
    edits: Sequence[Edit],
    keys: Sequence[KeyPath],
    path: str,
    expected_version: str | None,
) -> tuple[str, Mapping[str, Any]]:
    """The new text and its table, checked."""
    try:
        current = make_layer({"type": "user"}, parse_toml(text, path))
    except ConfigError as error:
        raise _invalid(error.details) from error
    if expected_version is not None and expected_version != current.version:
        raise ConfigWriteError(
            "configVersionConflict",
            "Configuration was modified since last read. Fetch latest version and retry.",
        )
    if not edits:
        return text, current.table
    # Loaded when something is first written: the editor is costly to load and rarely needed.
    from treadle.config.toml_edit import edit_text

    for edit, key in zip(edits, keys, strict=True):
        text = edit_text(text, key, edit.value, edit.merge_strategy)
    return text, _checked(text, path)


def _checked(text: str, path: str) -> Mapping[str, Any]:
    try:
        table = parse_toml(text, path)
        layer = make_layer({"type": "user"}, table)
        check_layer(layer)
        check_providers(table)
    except ConfigError as error:
        raise _invalid(error.keyed_reason) from error
    return layer.table


def _replace(target: Path, before: str, after: str) -> bool:
    """Put the new text in place in one step, through links; false if others were faster."""
    real = target.resolve()
    real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = 0o600
    try:
        mode = stat.S_IMODE(real.stat().st_mode)
        current = real.read_text(encoding="utf-8")
    except FileNotFoundError:
        current = ""
    if current != before:
        return False
    draft = real.with_name(f".{real.name}.{new_id()}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.replace(real)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return True


def _overridden(store: ConfigStore, keys: Sequence[KeyPath]) -> dict[str, Any] | None:
    """What hides the first of the written values that does not count."""
    try:
        stack = store.stack()
    except ConfigError:
        return None
    effective = stack.effective()
    user = next(
        layer
        for layer in stack.layers
        if layer.name["type"] == "user" and layer.path == str(store.user_file)
    )
    for key in keys:
        value = get(effective, key)
        winner = stack.origin(key)
        if winner is None or winner is user or value == get(user.table, key):
            continue
        if stack.layers.index(winner) < stack.layers.index(user):
            return {
                "message": f"Overridden by {_label(winner)}",
                "overridingLayer": winner.metadata,
                "effectiveValue": value,
            }
    return None


def _label(layer: Layer) -> str:
    kind = layer.name["type"]
    if kind == "sessionFlags":
        return "session flags"
    if kind == "legacyManagedConfigTomlFromFile":
        return f"the administrator's {layer.path}"
    return f"{kind} configuration in {layer.path}"
