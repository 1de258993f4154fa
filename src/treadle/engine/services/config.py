"""The port to configuration as clients see it: read, write, requirements, problems.

Implemented above the engine, where files and environment are read.
"""

from typing import Any, Protocol


class ConfigService(Protocol):
    """Configuration as the protocol presents it."""

    def read(self, cwd: str | None, *, include_layers: bool) -> dict[str, Any]:
        """`{config, origins, layers?}`; raises ConfigRejected when it cannot be read."""
        ...

    def write(
        self, edits: list[tuple[str, Any, str]], file_path: str | None, expected: str | None
    ) -> dict[str, Any]:
        """Apply (key path, value, merge strategy) edits, all or none; the write's answer."""
        ...

    def requirements(self) -> dict[str, Any] | None:
        """What an administrator requires; None without such a policy."""
        ...

    def warnings(self) -> list[dict[str, Any]]:
        """Problems found, in the shape of `configWarning`."""
        ...

    def features(self, cwd: str | None) -> list[dict[str, Any]]:
        """Feature switches in the shape of `experimentalFeature/list`; raises ConfigRejected."""
        ...

    def switch_features(self, wanted: dict[str, bool]) -> dict[str, bool]:
        """Switch features for the life of the process, under the configuration; those taken."""
        ...

    def hooks(self, cwd: str | None) -> dict[str, Any]:
        """The hooks that run for a folder, in the shape of `hooks/list`; raises ConfigRejected."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """The model catalog in the shape of `model/list`."""
        ...

    def providers(self) -> list[dict[str, Any]]:
        """Providers in the shape of `modelProvider/list`, without their secrets."""
        ...

    def permission_profiles(self) -> list[dict[str, Any]]:
        """Profiles in the shape of `permissionProfile/list`; raises ConfigRejected."""
        ...

    def default_provider(self) -> str:
        """Id of the configured model provider; raises ConfigRejected when it cannot be read."""
        ...
