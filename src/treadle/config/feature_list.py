"""The protocol's view of the feature switches: each with its stage, its default and its state.

Pure. A switch that is not obeyed here stands as `removed`, which tells clients that it is accepted
for compatibility alone.
"""

from typing import Any

from treadle.config.feature_names import FEATURE_NAMES, OBEYED
from treadle.config.settings import Config


def feature_list(config: Config) -> list[dict[str, Any]]:
    """All switches, the obeyed ones first, each in the shape of `experimentalFeature/list`."""
    names = sorted(FEATURE_NAMES, key=lambda name: (name not in OBEYED, name))
    return [_shown(name, config) for name in names]


def _shown(name: str, config: Config) -> dict[str, Any]:
    switch = OBEYED.get(name)
    default = switch is not None and switch.default
    beta = switch is not None and not default
    return {
        "name": name,
        "stage": "removed" if switch is None else "beta" if beta else "stable",
        "displayName": switch.title if switch is not None else None,
        "description": switch.description if switch is not None else None,
        "announcement": "" if beta else None,
        "enabled": config.features.get(name, default),
        "defaultEnabled": default,
    }
