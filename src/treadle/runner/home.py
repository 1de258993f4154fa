"""The agent's home: credentials of one profile, projected into a folder of the run's own.

Copies `auth.json`, `config.toml` and `model-catalog.json` from where the secret is mounted into a
private folder (0700, files 0600), checks that what the profile needs is there, and says which exact
values must never be told. There is no fall-back from one profile to another. Knows no manager.
"""

import contextlib
import json
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

CREDENTIAL_FILES = ("auth.json", "config.toml")
CATALOG = "model-catalog.json"
PROJECTED_FILES = (*CREDENTIAL_FILES, CATALOG)

THREADS_FOLDER = "sessions"

REQUIRED_FILES: dict[str, tuple[str, ...]] = {
    "codex": CREDENTIAL_FILES,
    "deepseek": CREDENTIAL_FILES,
    "minimax-m3": CREDENTIAL_FILES,
    "dsflash-go": (*CREDENTIAL_FILES, CATALOG),
}
"""What a profile cannot do without; other profiles need what their secret names."""

_SECRET_WORDS = ("key", "token", "secret", "password", "authorization", "credential")
_PUBLIC_AUTH_FIELDS = frozenset({"auth_mode", "last_refresh", "account_id"})
"""Fields of auth.json whose values are ordinary words or dates: redacting them would hide those."""
_MIN_SECRET_CHARS = 6


class SecretUnavailable(Exception):
    """A credential file is missing or cannot be read; the text names it, never its content."""


@dataclass(frozen=True, slots=True)
class AgentHome:
    """A home that is ready for a backend."""

    path: Path
    secrets: tuple[str, ...]
    """Exact values that no event, log or spool may hold."""
    facts: dict[str, Any]
    """What may be told of the profile."""


def prepare_home(
    home: Path,
    source: Path | None,
    *,
    profile: str,
    required: Iterable[str] | None,
) -> AgentHome:
    """Make `home` fit for a backend of `profile`.

    Args:
        home: the private home; created when missing.
        source: folder where the secret is mounted; None when `home` itself holds the files.
        profile: the run's backend profile.
        required: the files that the run's credential names (the profile's own are added), or None
            when the run names no credential: then what is there is used.

    Raises:
        SecretUnavailable: a required file is missing or unreadable, or the home cannot be made.
    """
    needed = _needed(profile, required)
    origin = source or home
    for name in needed:
        if not (origin / name).is_file():
            raise SecretUnavailable(
                f"Profile {profile} needs {name}; it is not in the credential folder. "
                "Mount the profile's secret there."
            )
    try:
        if source is not None and source.resolve() != home.resolve():
            _project(source, home)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return AgentHome(home, tuple(_secrets(home)), _facts(home, profile))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SecretUnavailable(f"The credential files cannot be read: {reason}.") from error


def keep_threads(home: Path, folder: Path) -> None:
    """Let the threads of a new home lie in `folder`, which outlives it; credentials stay here.

    A home that has threads of its own keeps them where they are.

    Raises:
        OSError: the folder cannot be used.
    """
    kept, threads = folder / THREADS_FOLDER, home / THREADS_FOLDER
    kept.mkdir(parents=True, exist_ok=True)
    if not threads.exists() and not threads.is_symlink():
        threads.symlink_to(kept, target_is_directory=True)


def _needed(profile: str, required: Iterable[str] | None) -> list[str]:
    if required is None:
        return []
    # A key names a file of the secret, never a path.
    return sorted({Path(name).name for name in required} | set(REQUIRED_FILES.get(profile, ())))


def _project(source: Path, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(stat.S_IRWXU)
    for name in PROJECTED_FILES:
        if not (source / name).is_file():
            # What an earlier attempt projected must not outlive the secret it came from.
            (home / name).unlink(missing_ok=True)
            continue
        fresh = home / f".{name}.new"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write((source / name).read_bytes())
        fresh.replace(home / name)


def _secrets(home: Path) -> Iterator[str]:
    """Every text of auth.json, and of config.toml those whose names speak of secrets."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        yield from _texts(json.loads((home / "auth.json").read_bytes()))
    for _, value in _named_texts(_config(home), ""):
        yield value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) >= _MIN_SECRET_CHARS:
        yield value
    elif isinstance(value, dict):
        for name, member in cast("dict[str, Any]", value).items():
            if name not in _PUBLIC_AUTH_FIELDS:
                yield from _texts(member)
    elif isinstance(value, list):
        for entry in cast("list[Any]", value):
            yield from _texts(entry)


def _named_texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, member in cast("dict[str, Any]", value).items():
            yield from _named_texts(member, f"{path}.{name.lower()}")
    elif isinstance(value, list):
        for entry in cast("list[Any]", value):
            yield from _named_texts(entry, path)
    elif isinstance(value, str) and _is_secret(path, value):
        yield path, value


def _is_secret(path: str, value: str) -> bool:
    name = path.rsplit(".", 1)[-1]
    if name.startswith("env_") or name.endswith(("_env_var", "_env")) or "env_http_" in path:
        return False  # the name of a variable, not its value
    speaks = any(word in name for word in _SECRET_WORDS) or ".http_headers." in path
    return speaks and len(value) >= _MIN_SECRET_CHARS


def _config(home: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((home / "config.toml").read_text())
    except (FileNotFoundError, ValueError):
        return {}  # the backend reads it too, and says what is wrong with it


def _facts(home: Path, profile: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": profile}
    model = _config(home).get("model")
    if isinstance(model, str):
        facts["model"] = model
    try:
        catalog = json.loads((home / CATALOG).read_bytes())
    except (FileNotFoundError, ValueError):
        return facts
    windows = dict(_windows(catalog))
    window = windows.get(str(model)) or next(iter(windows.values()), None)
    if window is not None:
        facts["contextWindow"] = window
    return facts


def _windows(value: Any) -> Iterator[tuple[str, int]]:
    """Model name and context window of each entry of a catalog, whatever it is wrapped in."""
    if isinstance(value, list):
        for entry in cast("list[Any]", value):
            yield from _windows(entry)
    elif isinstance(value, dict):
        members = cast("Mapping[str, Any]", value)
        window = members.get("contextWindow", members.get("context_window"))
        if isinstance(window, int):
            yield str(members.get("slug") or members.get("id") or members.get("model")), window
        for member in members.values():
            yield from _windows(member)
