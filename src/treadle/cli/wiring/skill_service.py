"""Skills as the protocol presents them: the engine's `Skills` over a `SkillBook`."""

from collections.abc import Sequence
from typing import Any

from treadle.config.errors import ConfigError
from treadle.config.layers import section
from treadle.config.skills import FoundSkill, SkillBook, switch_entries
from treadle.config.store import ConfigStore
from treadle.engine.services.errors import ConfigRejected


class BookSkills:
    """Lists skills and writes their switches into the user's configuration."""

    def __init__(self, config: ConfigStore, book: SkillBook) -> None:
        """Serve `book`; switches go through `config`."""
        self._config = config
        self._book = book

    def listing(self, cwd: str | None, extra_roots: Sequence[str]) -> dict[str, Any]:
        """What there is for a folder."""
        folder = cwd if cwd is not None else str(self._config.environment.working_folder)
        try:
            skills = self._book.read(folder, extra_roots)
        except ConfigError as error:
            raise ConfigRejected(error.read_message, internal=True) from error
        return {
            "cwd": folder,
            "skills": [_shown(found) for found in skills.found],
            "errors": [{"path": fault.path, "message": fault.message} for fault in skills.faults],
        }

    def switch(self, *, path: str | None, name: str | None, enabled: bool) -> bool:
        """On is the default and leaves no trace in the file."""
        from treadle.config.edit import ConfigWriteError, Edit, write_config

        word = {"path": path} if path is not None else {"name": name}
        entries = [entry for entry in self._written() if not word.items() <= entry.items()]
        if not enabled:
            entries.append({**word, "enabled": False})
        edit = Edit("skills.config", entries) if entries else Edit("skills", None)
        try:
            write_config(self._config, [edit])
        except ConfigWriteError as error:
            raise ConfigRejected(str(error), code=error.code) from error
        return enabled

    def set_extra_roots(self, roots: Sequence[str]) -> None:
        """Until the process ends."""
        self._book.extra_roots = tuple(roots)

    def _written(self) -> list[dict[str, Any]]:
        """The switches in the user's own file."""
        try:
            layers = self._config.stack().layers
        except ConfigError as error:
            raise ConfigRejected(error.read_message, internal=True) from error
        for layer in layers:
            if layer.name["type"] == "user" and not layer.name.get("profile"):
                return switch_entries(section(layer.table, "skills").get("config"))
        return []


def _shown(found: FoundSkill) -> dict[str, Any]:
    return {
        "name": found.skill.name,
        "description": found.skill.description,
        "shortDescription": found.short_description,
        "path": found.skill.path,
        "scope": found.scope,
        "enabled": found.enabled,
        "pluginId": None,
    }
