"""The protocol's view of configuration: every key, its origin, the layers, the limits.

Pure. The one reply whose members keep configuration's own spelling; dictated by the protocol.
"""

from collections.abc import Mapping
from typing import Any

from treadle.config.keys import OTHER_KEYS, STABLE_KEYS
from treadle.config.layers import Layer, section
from treadle.config.requirements import Requirements
from treadle.config.settings import DEFAULT_DOC_BYTES, DEFAULT_TERMINAL_WAIT_MS, Config

_DEFAULTS: Mapping[str, Any] = {
    "allow_login_shell": True,
    "background_terminal_max_timeout": DEFAULT_TERMINAL_WAIT_MS,
    "chatgpt_base_url": "https://chatgpt.com/backend-api/",
    "cli_auth_credentials_store": "file",
    "features": {},
    "file_opener": "vscode",
    "hide_agent_reasoning": False,
    "include_apps_instructions": True,
    "include_collaboration_mode_instructions": True,
    "include_environment_context": True,
    "include_environment_context_time": True,
    "include_permissions_instructions": True,
    "marketplaces": {},
    "mcp_oauth_credentials_store": "auto",
    "mcp_servers": {},
    "model_providers": {},
    "plugins": {},
    "profiles": {},
    "project_doc_fallback_filenames": [],
    "project_doc_max_bytes": DEFAULT_DOC_BYTES,
    "project_root_markers": [".git"],
}

_TABLES: Mapping[str, Mapping[str, Any]] = {
    "history": {"persistence": "save-all", "max_bytes": None},
    "shell_environment_policy": dict.fromkeys(
        (
            "inherit",
            "ignore_default_excludes",
            "exclude",
            "set",
            "include_only",
            "filters",
            "experimental_use_profile",
        )
    ),
}

_WORKSPACE: Mapping[str, Any] = {
    "writable_roots": [],
    "network_access": False,
    "exclude_tmpdir_env_var": False,
    "exclude_slash_tmp": False,
}

_LIMITS = (
    ("allowedApprovalPolicies", "allowed_approval_policies"),
    ("allowedApprovalsReviewers", "allowed_approvals_reviewers"),
    ("allowedSandboxModes", "allowed_sandbox_modes"),
    ("allowedWebSearchModes", "allowed_web_search_modes"),
    ("allowedLoginMethods", "allowed_login_methods"),
)

_PLAIN_LIMITS = (
    ("allowManagedHooksOnly", "allow_managed_hooks_only"),
    ("allowLoginShell", "allow_login_shell"),
    ("defaultPermissions", "default_permissions"),
    ("enforceResidency", "enforce_residency"),
    ("featureRequirements", "features"),
)


def read_view(config: Config, include_layers: bool = False) -> dict[str, Any]:
    """The reply to a read: `{config, origins, layers?}`; layers highest first."""
    view: dict[str, Any] = {
        "config": effective_view(config.table),
        "origins": config.stack.origins(),
    }
    if include_layers:
        view["layers"] = [layer_view(layer) for layer in config.stack.layers]
    return view


def effective_view(table: Mapping[str, Any]) -> dict[str, Any]:
    """Every known key with its value, its default, or null."""
    view: dict[str, Any] = {
        key: table.get(key, _DEFAULTS.get(key)) for key in (*STABLE_KEYS, *OTHER_KEYS)
    }
    for key, members in _TABLES.items():
        view[key] = {**members, **section(table, key)}
    if "sandbox_workspace_write" in table:
        view["sandbox_workspace_write"] = {
            **_WORKSPACE,
            **section(table, "sandbox_workspace_write"),
        }
    if "tools" in table:
        tools = dict(section(table, "tools"))
        search = tools.get("web_search")
        # The protocol's form knows the details only; the plain switch has no place in it.
        tools["web_search"] = search if isinstance(search, dict) else None
        view["tools"] = tools
    return view


def layer_view(layer: Layer) -> dict[str, Any]:
    """One layer as listed."""
    view: dict[str, Any] = {**layer.metadata, "config": dict(layer.table)}
    if layer.disabled_reason is not None:
        view["disabledReason"] = layer.disabled_reason
    return view


def requirements_view(requirements: Requirements) -> dict[str, Any]:
    """The reply to a read of the administrator's limits; null when there are none."""
    table = requirements.table
    if not table:
        return {"requirements": None, "supportsIndependentSpeedModes": True}
    limits: dict[str, Any] = {}
    for name, key in _LIMITS:
        allowed = requirements.allowed(key)
        limits[name] = None if allowed is None else list(allowed)
    for name, key in _PLAIN_LIMITS:
        limits[name] = table.get(key)
    return {"requirements": limits, "supportsIndependentSpeedModes": True}
