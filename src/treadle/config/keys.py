"""Every key of a configuration file and what it takes.

The table behind validation, unknown-key warnings and the list of members that a read answers.
Names and types are those of existing configuration files. Pure data.
"""

from typing import cast

from treadle.config.feature_names import FEATURE_NAMES
from treadle.config.schema import (
    Anything,
    Either,
    Flag,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Path,
    Shape,
    Table,
    Text,
    ValueFault,
    Whole,
    mismatch,
    unknown_variant,
)

_TEXT, _FLAG, _ANY, _U64 = Text(), Flag(), Anything(), Whole("u64")
_TEXTS = ListOf(_TEXT)
_STRINGS = MapOf(_TEXT)

APPROVALS = ("untrusted", "on-failure", "on-request", "granular", "never")
SANDBOX_MODES = ("read-only", "workspace-write", "danger-full-access")
WEB_SEARCH_MODES = ("disabled", "cached", "indexed", "live")


class _WireApi:
    """The one provider API there is; the retired one gets its own advice."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        if value == "chat":
            raise ValueFault(
                key,
                '`wire_api = "chat"` is no longer supported.\n'
                'How to fix: set `wire_api = "responses"` in your provider config.',
            )
        OneOf(("responses",)).check(value, key, unknown)


class _ThreadStore:
    """`{type = "local"}`, `{type = "in_memory", id = "..."}` or `{type = "remote", ...}`."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        _STORE.check(value, key, unknown)
        assert isinstance(value, dict)
        if value["type"] == "in_memory" and "id" not in value:
            raise ValueFault(key, "missing field `id`")
        if value["type"] == "remote" and "endpoint" not in value:
            raise ValueFault(key, "missing field `endpoint`")


_BUDGET = Table(
    "BudgetToml",
    {
        "tokens": _U64,
        "model_calls": _U64,
        "tool_calls": _U64,
        "wall_clock_seconds": _U64,
        "children": _U64,
    },
)
_STORE = Table(
    "ThreadStoreToml",
    {"type": OneOf(("local", "in_memory", "remote")), "id": _TEXT, "endpoint": _TEXT},
    required=("type",),
)


class _McpServer:
    """A server reached by a command or by a URL, never both or neither."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        _MCP_SERVER.check(value, key, unknown)
        assert isinstance(value, dict)
        if ("command" in value) == ("url" in value):
            raise ValueFault(key, "invalid transport")


_MCP_TOOL = Table(
    "McpServerToolConfig",
    {"approval_mode": OneOf(("auto", "prompt", "writes", "approve")), "enabled": _FLAG},
)
_MCP_SERVER = Table(
    "RawMcpServerConfig",
    {
        "command": _TEXT,
        "args": _TEXTS,
        "env": _STRINGS,
        "env_vars": ListOf(Either((_TEXT, MapOf(_ANY)), "expected a name or a table")),
        "cwd": _TEXT,
        "url": _TEXT,
        "bearer_token": _TEXT,
        "bearer_token_env_var": _TEXT,
        "http_headers": _STRINGS,
        "env_http_headers": _STRINGS,
        "scopes": _TEXTS,
        "oauth": _ANY,
        "oauth_resource": _TEXT,
        "auth": _ANY,
        "enabled": _FLAG,
        "required": _FLAG,
        "startup_timeout_sec": Number(),
        "startup_timeout_ms": _U64,
        "tool_timeout_sec": Number(),
        "enabled_tools": _TEXTS,
        "disabled_tools": _TEXTS,
        "tools": MapOf(_MCP_TOOL),
        "default_tools_approval_mode": OneOf(("auto", "prompt", "writes", "approve")),
        "supports_parallel_tool_calls": _FLAG,
        "environment_id": _TEXT,
    },
)

_PROVIDER = Table(
    "ModelProviderInfo",
    {
        "name": _TEXT,
        "base_url": _TEXT,
        "env_key": _TEXT,
        "env_key_instructions": _TEXT,
        "experimental_bearer_token": _TEXT,
        "wire_api": _WireApi(),
        "query_params": _STRINGS,
        "http_headers": _STRINGS,
        "env_http_headers": _STRINGS,
        "request_max_retries": _U64,
        "stream_max_retries": _U64,
        "stream_idle_timeout_ms": _U64,
        "websocket_connect_timeout_ms": _U64,
        "requires_openai_auth": _FLAG,
        "supports_websockets": _FLAG,
        "supports_standalone_web_search": _FLAG,
        **dict.fromkeys(
            (
                "auth",
                "aws",
                "gateway_oauth",
                "project_id",
                "location",
                "credential_file",
                "model_catalog_url",
                "capabilities",
            ),
            _ANY,
        ),
    },
)

_GRANULAR = Table(
    "GranularApprovalConfig",
    dict.fromkeys(
        (
            "sandbox_approval",
            "rules",
            "mcp_elicitations",
            "request_permissions",
            "skill_approval",
        ),
        _FLAG,
    ),
    required=("sandbox_approval", "rules", "mcp_elicitations"),
)


class _Approval:
    """A policy's name, or `{granular = {...}}`."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        if isinstance(value, str):
            if value not in APPROVALS or value == "granular":
                raise ValueFault(key, unknown_variant(value, APPROVALS))
            return
        if not isinstance(value, dict):
            raise ValueFault(key, "invalid type: unit variant, expected string only")
        table = cast("dict[str, object]", value)
        if set(table) != {"granular"}:
            raise mismatch(table, "a policy's name or a table with `granular`", key)
        _GRANULAR.check(table["granular"], (*key, "granular"), unknown)


_WEB_SEARCH_TOOL = Either(
    (
        _FLAG,
        Table(
            "WebSearchToolConfig",
            {
                "context_size": OneOf(("low", "medium", "high")),
                "allowed_domains": _TEXTS,
                "location": MapOf(_ANY),
            },
        ),
    ),
    "data did not match any variant of untagged enum WebSearchToolConfigInput",
)

_TOOLS = Table(
    "ToolsToml",
    {
        "web_search": _WEB_SEARCH_TOOL,
        "view_image": _FLAG,
        "update_plan": _ANY,
        "experimental_request_user_input": _ANY,
    },
)

_SHELL_ENVIRONMENT = Table(
    "ShellEnvironmentPolicyToml",
    {
        "inherit": OneOf(("core", "all", "none")),
        "ignore_default_excludes": _FLAG,
        "exclude": _TEXTS,
        "include_only": _TEXTS,
        "set": _STRINGS,
        "filters": _ANY,
        "experimental_use_profile": _FLAG,
    },
)

_WORKSPACE = Table(
    "SandboxWorkspaceWrite",
    {
        "writable_roots": _TEXTS,
        "network_access": _FLAG,
        "exclude_tmpdir_env_var": _FLAG,
        "exclude_slash_tmp": _FLAG,
    },
)

_HISTORY = Table(
    "History", {"persistence": OneOf(("save-all", "none")), "max_bytes": Whole("usize")}
)

_FEATURE = Either((_FLAG, MapOf(_ANY)), "expected a boolean")


class _Features:
    """Feature switches; a few of them take a table in place of true and false."""

    def check(self, value: object, key: Path, unknown: list[Path]) -> None:
        if not isinstance(value, dict):
            raise mismatch(value, "struct FeaturesToml", key)
        for name, item in cast("dict[str, object]", value).items():
            if not isinstance(item, (bool, dict)):
                raise FeatureFault(key, mismatch(item, "a boolean", key).reason, name)
            if name not in FEATURE_NAMES:
                unknown.append((*key, name))


class FeatureFault(ValueFault):
    """A switch that is no boolean: named by its table, though its own name is known."""

    def __init__(self, key: Path, reason: str, feature: str) -> None:
        super().__init__(key, reason)
        self.feature = feature


_PROJECT = Table("ProjectConfig", {"trust_level": OneOf(("trusted", "untrusted"))})

_EFFORT = _TEXT

STABLE_KEYS: dict[str, Shape] = {
    "model": _TEXT,
    "review_model": _TEXT,
    "model_context_window": Whole("i64"),
    "model_auto_compact_token_limit": Whole("i64"),
    "model_auto_compact_token_limit_scope": _TEXT,
    "model_provider": _TEXT,
    "approval_policy": _Approval(),
    "approvals_reviewer": OneOf(("user", "auto_review", "guardian_subagent")),
    "sandbox_mode": OneOf(SANDBOX_MODES),
    "sandbox_workspace_write": _WORKSPACE,
    "forced_chatgpt_workspace_id": Either((_TEXT, _TEXTS), "expected a string or a list of them"),
    "forced_login_method": OneOf(("chatgpt", "api")),
    "web_search": OneOf(WEB_SEARCH_MODES),
    "client_search_provider": _ANY,
    "tools": _TOOLS,
    "instructions": _TEXT,
    "developer_instructions": _TEXT,
    "compact_prompt": _TEXT,
    "model_reasoning_effort": _EFFORT,
    "model_reasoning_summary": OneOf(("auto", "concise", "detailed", "none")),
    "model_verbosity": OneOf(("low", "medium", "high")),
    "service_tier": _TEXT,
    "analytics": Table("AnalyticsConfigToml", {"enabled": _FLAG}),
    "apps": MapOf(_ANY),
    "browser_use": MapOf(_ANY),
    "computer_use": MapOf(_ANY),
    "desktop": MapOf(_ANY),
}
"""Members of a read that both protocol versions describe."""

OTHER_KEYS: dict[str, Shape] = {
    "agents": MapOf(_ANY),
    "allow_login_shell": _FLAG,
    "allow_symlinked_codex_home": _FLAG,
    "approval_timeout_decision": OneOf(("accept", "decline", "cancel")),
    "approval_timeout_secs": _U64,
    "approval_unattended": OneOf(("wait", "settle")),
    "apps_mcp_product_sku": _TEXT,
    "audio": _ANY,
    "auto_review": MapOf(_ANY),
    "background_terminal_max_timeout": _U64,
    "budget": _BUDGET,
    "chatgpt_base_url": _TEXT,
    "check_for_update_on_startup": _FLAG,
    "cli_auth_credentials_store": OneOf(("file", "keyring", "auto", "ephemeral")),
    "cloud": _ANY,
    "daybreak": _ANY,
    "default_permissions": _TEXT,
    "disable_paste_burst": _FLAG,
    "experimental_compact_prompt_file": _TEXT,
    "experimental_realtime_start_instructions": _TEXT,
    "experimental_realtime_webrtc_call_base_url": _TEXT,
    "experimental_realtime_ws_backend_prompt": _TEXT,
    "experimental_realtime_ws_base_url": _TEXT,
    "experimental_realtime_ws_model": _TEXT,
    "experimental_realtime_ws_startup_context": _TEXT,
    "experimental_thread_store": _ThreadStore(),
    "experimental_thread_store_endpoint": _TEXT,
    "experimental_use_unified_exec_tool": _FLAG,
    "features": _Features(),
    "feedback": Table("FeedbackConfigToml", {"enabled": _FLAG}),
    "file_opener": _TEXT,
    "ghost_snapshot": _ANY,
    "goals": Table("GoalsToml", {"max_goal_token_budget": _U64}),
    "hide_agent_reasoning": _FLAG,
    "history": _HISTORY,
    "hooks": MapOf(_ANY),
    "include_apps_instructions": _FLAG,
    "include_collaboration_mode_instructions": _FLAG,
    "include_environment_context": _FLAG,
    "include_environment_context_time": _FLAG,
    "include_permissions_instructions": _FLAG,
    "js_repl_node_module_dirs": _ANY,
    "js_repl_node_path": _ANY,
    "log_dir": _TEXT,
    "marketplaces": MapOf(_ANY),
    "mcp_enterprise_managed_auth": _ANY,
    "mcp_oauth_callback_port": Whole("u16"),
    "mcp_oauth_callback_url": _TEXT,
    "mcp_oauth_credentials_store": OneOf(("auto", "file", "keyring")),
    "max_loaded_threads": _U64,
    "mcp_optional_startup_grace_ms": _U64,
    "mcp_servers": MapOf(_McpServer()),
    "memories": MapOf(_ANY),
    "model_catalog_json": _TEXT,
    "model_instructions_file": _TEXT,
    "model_post_turn_compact_threshold_percent": Whole("u8"),
    "model_providers": MapOf(_PROVIDER),
    "notice": _ANY,
    "notify": _TEXTS,
    "openai_base_url": _TEXT,
    "orchestrator": _ANY,
    "oss_provider": _TEXT,
    "otel": _ANY,
    "permissions": MapOf(_ANY),
    "personality": OneOf(("none", "friendly", "pragmatic")),
    "plan_mode_reasoning_effort": _EFFORT,
    "plugins": MapOf(_ANY),
    "profile": _TEXT,
    "profiles": MapOf(MapOf(_ANY)),
    "project_doc_fallback_filenames": _TEXTS,
    "project_doc_max_bytes": Whole("usize"),
    "project_root_markers": _TEXTS,
    "projects": MapOf(_PROJECT),
    "realtime": _ANY,
    "responses_api_metadata": _STRINGS,
    "sandbox_backend": OneOf(("auto", "bubblewrap", "namespaces", "landlock", "none")),
    "shell_environment_policy": _SHELL_ENVIRONMENT,
    "show_raw_agent_reasoning": _FLAG,
    "skills": MapOf(_ANY),
    "sqlite_home": _TEXT,
    "suppress_unstable_features_warning": _FLAG,
    "thread_unload_delay_secs": _U64,
    "tool_output_token_limit": Whole("usize"),
    "tool_suggest": _ANY,
    "tui": _ANY,
    "web_limits": Table(
        "WebLimits",
        {"timeout_ms": _U64, "max_bytes": Whole("usize"), "max_redirects": Whole("u16")},
    ),
    "windows": _ANY,
}
"""The other members of a read; `budget`, `sandbox_backend` and `web_limits` are Treadle's own."""

ROOT = Table("ConfigToml", {**STABLE_KEYS, **OTHER_KEYS})

PROJECT_MAY_NOT_SET = frozenset(
    {
        "budget",
        "openai_base_url",
        "chatgpt_base_url",
        "apps_mcp_product_sku",
        "model_provider",
        "model_providers",
        "notify",
        "profile",
        "profiles",
        "experimental_realtime_ws_base_url",
        "experimental_thread_store",
        "otel",
        "projects",
    }
)
"""Keys that decide where credentials, data and money go: a repository must not choose them."""
