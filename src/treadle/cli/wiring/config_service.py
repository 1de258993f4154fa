"""Configuration as the protocol presents it: the engine's `ConfigService` over a `ConfigStore`."""

from typing import Any

from treadle.config.errors import ConfigError, ConfigProblem, TextPosition, TextRange
from treadle.config.feature_names import RUNTIME_SWITCHES
from treadle.config.providers import ProviderConfig
from treadle.config.store import ConfigStore
from treadle.engine.model import catalog
from treadle.engine.services.errors import ConfigRejected


class StoreConfigService:
    """Reads and writes the configuration for clients."""

    def __init__(self, config: ConfigStore, extra_warnings: list[dict[str, Any]]) -> None:
        """Serve `config`; `extra_warnings` are told at the handshake beside its problems."""
        self._config = config
        self._extra = extra_warnings

    def read(self, cwd: str | None, *, include_layers: bool) -> dict[str, Any]:
        """The configuration in force."""
        from treadle.config.read_view import read_view

        try:
            return read_view(self._config.snapshot(cwd), include_layers)
        except ConfigError as error:
            raise ConfigRejected(error.read_message, internal=True) from error

    def write(
        self, edits: list[tuple[str, Any, str]], file_path: str | None, expected: str | None
    ) -> dict[str, Any]:
        """Change the user's file."""
        from treadle.config.edit import ConfigWriteError, Edit, write_config

        changes = [Edit(key, value, strategy) for key, value, strategy in edits]  # pyright: ignore[reportArgumentType] - the strategy was checked when it was decoded
        try:
            outcome = write_config(
                self._config, changes, file_path=file_path, expected_version=expected
            )
        except ConfigWriteError as error:
            raise ConfigRejected(str(error), code=error.code) from error
        return outcome.reply

    def requirements(self) -> dict[str, Any] | None:
        """The administrator's limits."""
        from treadle.config.read_view import requirements_view

        try:
            return requirements_view(self._config.requirements())["requirements"]
        except ConfigError as error:
            raise ConfigRejected(error.read_message, internal=True) from error

    def warnings(self) -> list[dict[str, Any]]:
        """Problems as `configWarning` parameters."""
        return [*(_warning(problem) for problem in self._config.problems), *self._extra]

    def features(self, cwd: str | None) -> list[dict[str, Any]]:
        """The switches as they are for a folder."""
        from treadle.config.feature_list import feature_list

        try:
            return feature_list(self._config.snapshot(cwd))
        except ConfigError as error:
            raise ConfigRejected(error.read_message, internal=True) from error

    def switch_features(self, wanted: dict[str, bool]) -> dict[str, bool]:
        """What is not to be switched so is passed over."""
        taken = {name: on for name, on in wanted.items() if name in RUNTIME_SWITCHES}
        self._config.switch(taken)
        return taken

    def hooks(self, cwd: str | None) -> dict[str, Any]:
        """None are run; a warning for each place that has some."""
        from treadle.config.hooks import hook_warnings

        folder = cwd if cwd is not None else str(self._config.environment.working_folder)
        try:
            warnings = hook_warnings(self._config, folder)
        except ConfigError as error:
            raise ConfigRejected(error.read_message, internal=True) from error
        return {"cwd": folder, "hooks": [], "warnings": warnings, "errors": []}

    def models(self) -> list[dict[str, Any]]:
        """The catalog."""
        return [card.listing() for card in catalog.CATALOG]

    def providers(self) -> list[dict[str, Any]]:
        """The configured providers and the built-in one."""
        return [
            {
                "id": provider.id,
                "name": provider.name,
                "baseUrl": None if provider.built_in else provider.base_url,
                "canEdit": not provider.built_in,
                "settings": _provider_settings(provider),
            }
            for provider in self._config.startup().providers.values()
        ]

    def permission_profiles(self) -> list[dict[str, Any]]:
        """The built-in profiles; those of configuration are not acted upon, so not listed."""
        try:
            requirements = self._config.requirements()
        except ConfigError as error:
            raise ConfigRejected(error.read_message, internal=True) from error
        return [
            {"id": name, "description": None, "allowed": requirements.allows_sandbox(mode)}
            for name, mode in _PROFILES.items()
        ]

    def default_provider(self) -> str:
        """The configured provider's id."""
        return self._config.startup().model.provider.id


_PROFILES = {
    ":read-only": "read-only",
    ":workspace": "workspace-write",
    ":danger-full-access": "danger-full-access",
}


def _provider_settings(provider: ProviderConfig) -> dict[str, Any]:
    if provider.requires_openai_auth:
        return {"type": "openai"}
    return {"type": "customGateway", "auth": {"mode": "none"}}


def _warning(problem: ConfigProblem) -> dict[str, Any]:
    warning: dict[str, Any] = {
        "summary": problem.summary,
        "details": problem.details,
        "path": problem.path,
    }
    if problem.range is not None:
        warning["range"] = _range(problem.range)
    return warning


def _range(place: TextRange) -> dict[str, Any]:
    return {"start": _position(place.start), "end": _position(place.end)}


def _position(position: TextPosition) -> dict[str, int]:
    return {"line": position.line, "column": position.column}
