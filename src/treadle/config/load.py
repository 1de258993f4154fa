"""The one place that reads environment variables, and the door to configuration.

Light on purpose: a process that greets its client first reads the environment here and loads the
configuration (`config.store`) afterwards.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from treadle.config.environment import Environment
from treadle.kit.mint import new_id

if TYPE_CHECKING:
    from treadle.config.store import ConfigStore


class HomeMissing(Exception):
    """The home folder does not exist or cannot be used; the text says what to do."""


def read_environment() -> Environment:
    """A copy of the process's environment; taken once, by whoever starts the process."""
    return Environment(MappingProxyType(dict(os.environ)), Path.cwd())


def read_fault_plan() -> str:
    """The faults that a test wants of this process (`kit.fault_points`); empty in service."""
    return os.environ.get("TREADLE_FAULT_POINTS", "")


def ensure_home(environment: Environment) -> Path:
    """The home folder: one named by the environment must exist, the default one is made.

    Raises:
        HomeMissing: it is not there, or cannot be made.
    """
    home = environment.home_folder()
    if home.is_dir():
        return home
    for variable in ("TREADLE_HOME", "CODEX_HOME"):
        if environment.get(variable):
            raise HomeMissing(
                f"{variable} points to {home}, which is no folder: make it, or unset it"
            )
    try:
        home.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise HomeMissing(f"cannot make the home folder {home}: {error.strerror}") from error
    return home


def load_config(
    environment: Environment | None = None,
    *,
    overrides: Iterable[str] = (),
    enable: Iterable[str] = (),
    disable: Iterable[str] = (),
    profile: str | None = None,
    strict: bool = False,
) -> "ConfigStore":
    """The configuration of this process; a broken file does not stop it, a broken flag does.

    `overrides` are the texts of `-c`; `strict` makes unknown keys an error.

    Raises:
        FlagError: a flag cannot be used, or `strict` found unknown keys.
    """
    from treadle.config.errors import FlagError
    from treadle.config.key_path import flags_table
    from treadle.config.store import ConfigStore

    store = ConfigStore(
        environment or read_environment(), flags_table(overrides, enable, disable), profile
    )
    if strict and store.problems:
        problem = store.problems[0]
        raise FlagError(problem.details or problem.summary)
    return store


def read_installation_id(home: Path) -> str:
    """The id of this installation, made and kept in `home/installation_id` when first asked.

    Raises:
        OSError: the home folder cannot be read or written.
    """
    path = home / "installation_id"
    for _ in range(2):
        try:
            if text := path.read_text(encoding="utf-8").strip():
                return text
            path.unlink()
        except FileNotFoundError:
            pass
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Exclusive creation: of two processes that start together, one id wins.
        draft = path.with_name(f".{path.name}.{new_id()}")
        draft.write_text(new_id(), encoding="utf-8")
        draft.chmod(0o600)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="utf-8").strip()
