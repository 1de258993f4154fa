"""The administrator's limits on configuration: `requirements.toml`.

Owns which values are allowed and what stands in for one that is not. Pure: `load` reads the file.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from treadle.config.errors import ConfigError, ConfigProblem
from treadle.config.keys import APPROVALS, SANDBOX_MODES, WEB_SEARCH_MODES
from treadle.config.schema import Flag, ListOf, MapOf, OneOf, Shape, Text, ValueFault
from treadle.config.toml_text import locate

_SHAPES: dict[str, Shape] = {
    "allowed_approval_policies": ListOf(OneOf(APPROVALS)),
    "allowed_approvals_reviewers": ListOf(OneOf(("user", "auto_review", "guardian_subagent"))),
    "allowed_sandbox_modes": ListOf(OneOf(SANDBOX_MODES)),
    "allowed_web_search_modes": ListOf(OneOf(WEB_SEARCH_MODES)),
    "allowed_login_methods": ListOf(OneOf(("chatgpt", "api"))),
    "default_permissions": Text(),
    "allow_managed_hooks_only": Flag(),
    "allow_login_shell": Flag(),
    "features": MapOf(Flag()),
    "enforce_residency": OneOf(("us",)),
}

_LIMITED = (
    ("approval_policy", "allowed_approval_policies"),
    ("approvals_reviewer", "allowed_approvals_reviewers"),
    ("sandbox_mode", "allowed_sandbox_modes"),
    ("web_search", "allowed_web_search_modes"),
)


class Requirements(msgspec.Struct, frozen=True):
    """Checked limits; `table` holds them as written, empty when nobody sets any."""

    table: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    path: str = ""

    def allowed(self, name: str) -> tuple[str, ...] | None:
        """The values of an `allowed_...` list; None when everything is allowed."""
        values = self.table.get(name)
        if values is None:
            return None
        if name == "allowed_web_search_modes" and "disabled" not in values:
            return (*values, "disabled")
        return tuple(values)

    def allows_sandbox(self, mode: str) -> bool:
        """Whether threads may use this sandbox mode."""
        allowed = self.allowed("allowed_sandbox_modes")
        return allowed is None or mode in allowed

    def apply(
        self, table: Mapping[str, Any], defaults: Mapping[str, str]
    ) -> tuple[dict[str, Any], list[ConfigProblem]]:
        """The table within the limits, and one warning per configured value that was replaced.

        `defaults` are the values that count where the table is silent.
        """
        result, problems = dict(table), list[ConfigProblem]()
        for key, list_name in _LIMITED:
            allowed = self.allowed(list_name)
            value = result.get(key, defaults.get(key))
            if not allowed or value is None or _name(value) in allowed:
                continue
            if key in result:
                problems.append(self._replaced(key, _name(value), allowed))
            result[key] = allowed[0]
        if pins := self.table.get("features"):
            result["features"] = {**(result.get("features") or {}), **pins}
        if "allow_login_shell" in self.table:
            result["allow_login_shell"] = self.table["allow_login_shell"]
        return result, problems

    def _replaced(self, key: str, value: str, allowed: tuple[str, ...]) -> ConfigProblem:
        names = ", ".join(f"`{name}`" for name in allowed)
        return ConfigProblem(
            f"The configured `{key}` is not allowed by {self.path}; using `{allowed[0]}` instead.",
            f"`{value}` is none of the allowed values: {names}.",
        )


def _name(value: object) -> str:
    return value if isinstance(value, str) else "granular"


def check_requirements(table: Mapping[str, Any], path: str, text: str) -> Requirements:
    """The limits of a parsed file.

    Raises:
        ConfigError: a limit is not understood; nothing may run then, since it might be violated.
    """
    for name, value in table.items():
        shape = _SHAPES.get(name)
        if shape is None:
            continue
        try:
            shape.check(value, (name,), [])
        except ValueFault as fault:
            raise ConfigError(
                fault.reason,
                kind="requirements",
                key=fault.key,
                path=path,
                range=locate(text, fault.key),
            ) from fault
    return Requirements(table, path)
