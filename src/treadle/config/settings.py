"""The effective configuration as frozen, documented groups.

Owns defaults and the meaning of values. Built from a checked table; every value can say which
layer it comes from (`Config.origin`). Pure.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.config.errors import ConfigProblem
from treadle.config.feature_names import OBEYED
from treadle.config.layers import Stack, section
from treadle.config.providers import ProviderConfig
from treadle.domain.budgets import Budget
from treadle.domain.policy import (
    ApprovalPolicy,
    SandboxMode,
    SandboxPolicy,
    WorkspaceWrite,
    sandbox_from_mode,
)
from treadle.kit.discreet import Discreet

TrustLevel = Literal["trusted", "untrusted"]
DEFAULT_DOC_BYTES = 32768
DEFAULT_THREADS_IN_MEMORY = 1000
DEFAULT_TERMINAL_WAIT_MS = 300_000
DEFAULT_AGENT_THREADS = 6
DEFAULT_AGENT_DEPTH = 1
"""Both as the references have them."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which model answers and how. None leaves the choice to the model catalog."""

    model: str | None
    review_model: str | None
    provider: ProviderConfig
    effort: str | None
    plan_mode_effort: str | None
    summary: str | None
    verbosity: str | None
    service_tier: str | None
    personality: str | None
    context_window_tokens: int | None
    auto_compact_tokens: int | None
    tool_output_tokens: int | None
    """Longest tool output that the model is shown."""
    catalog_file: Path | None


class SafetySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent may do unasked."""

    approval_policy: ApprovalPolicy
    approvals_reviewer: str
    sandbox: SandboxPolicy
    sandbox_mode: SandboxMode
    workspace: WorkspaceWrite
    """The details that apply whenever a thread asks for workspace-write."""
    sandbox_backend: Literal["auto", "bubblewrap", "namespaces", "landlock", "none"]
    trust: TrustLevel | None
    allow_login_shell: bool


class PromptSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is said to the model besides the conversation."""

    instructions: str | None
    """Replaces the built-in instructions; a `model_instructions_file` is already read."""
    developer_instructions: str | None
    compact_prompt: str | None
    include_permissions: bool
    include_environment: bool
    include_environment_time: bool
    include_apps: bool
    include_collaboration_mode: bool
    doc_max_bytes: int
    doc_fallback_names: tuple[str, ...]
    root_markers: tuple[str, ...]


class ShellEnvironmentPolicy(Discreet, frozen=True, kw_only=True):
    """Which variables commands see. Patterns are case-insensitive globs."""

    unseen = ("set",)

    inherit: Literal["all", "core", "none"]
    ignore_default_excludes: bool
    """True keeps variables whose names look like secrets (KEY, SECRET, TOKEN)."""
    exclude: tuple[str, ...]
    include_only: tuple[str, ...]
    set: Mapping[str, str]


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where threads are kept and for how long they stay loaded."""

    kind: Literal["local", "in_memory", "remote"]
    id: str | None
    """Names an in-memory store: stores of one process with equal ids share their threads."""
    endpoint: str | None
    unload_delay_seconds: int
    """How long a thread without subscribers stays loaded; 0 closes it at once."""
    most_in_memory: int
    """Beyond so many threads idle ones leave memory, watched or not; 0 for no bound."""
    history_persistence: Literal["save-all", "none"]
    history_max_bytes: int | None
    sqlite_folder: Path


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Access to the web by the model's own search and by our fetches."""

    search_mode: Literal["disabled", "cached", "indexed", "live"] | None
    timeout_ms: int
    max_bytes: int
    max_redirects: int


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whether and how far agents may spawn others."""

    enabled: bool
    max_threads: int
    """Open sub-agents of one session."""
    max_depth: int
    """Levels below a user's thread."""


class Config(Discreet, frozen=True, kw_only=True):
    """One consistent reading of all layers for one working folder."""

    unseen = ("table", "stack")

    home: Path
    cwd: Path | None
    model: ModelSettings
    safety: SafetySettings
    prompt: PromptSettings
    shell_environment: ShellEnvironmentPolicy
    store: StoreSettings
    web: WebSettings
    providers: Mapping[str, ProviderConfig]
    features: Mapping[str, bool]
    """Switches as set, without defaults; see `feature`."""
    terminal_max_wait_ms: int
    forced_login_method: Literal["chatgpt", "api"] | None
    agents: AgentSettings
    budget: Budget
    table: Mapping[str, Any]
    """The merged table, for parts with settings of their own (MCP servers, hooks, skills)."""
    stack: Stack
    problems: tuple[ConfigProblem, ...] = ()

    def feature(self, name: str) -> bool:
        """Whether a feature is switched on, or its default when nobody says."""
        return self.features.get(name, OBEYED[name].default)

    def origin(self, *key: str) -> Mapping[str, Any] | None:
        """Name and version of the layer a value comes from; None for a default."""
        layer = self.stack.origin(key)
        return layer.metadata if layer else None


def read_workspace(table: Mapping[str, Any]) -> WorkspaceWrite:
    """The details of workspace-write."""
    values = section(table, "sandbox_workspace_write")
    return WorkspaceWrite(
        writable_roots=tuple(values.get("writable_roots") or ()),
        network_access=values.get("network_access", False),
        exclude_tmpdir_env_var=values.get("exclude_tmpdir_env_var", False),
        exclude_slash_tmp=values.get("exclude_slash_tmp", False),
    )


_PERMISSION_MODES: Mapping[str, SandboxMode] = {
    ":read-only": "read-only",
    ":workspace": "workspace-write",
    ":danger-full-access": "danger-full-access",
}


def read_safety(table: Mapping[str, Any], trust: TrustLevel | None) -> SafetySettings:
    """Sandbox and approval; where neither is set, the folder's trust decides."""
    workspace = read_workspace(table)
    mode: SandboxMode = table.get("sandbox_mode") or _PERMISSION_MODES.get(
        table.get("default_permissions") or "", "workspace-write" if trust else "read-only"
    )
    default: ApprovalPolicy = "untrusted" if trust == "untrusted" else "on-request"
    return SafetySettings(
        approval_policy=table.get("approval_policy") or default,
        approvals_reviewer=table.get("approvals_reviewer") or "user",
        sandbox=sandbox_from_mode(mode, workspace),
        sandbox_mode=mode,
        workspace=workspace,
        sandbox_backend=table.get("sandbox_backend") or "auto",
        trust=trust,
        allow_login_shell=table.get("allow_login_shell", True),
    )


def read_model(
    table: Mapping[str, Any], provider: ProviderConfig, catalog: Path | None
) -> ModelSettings:
    """The model group."""
    return ModelSettings(
        model=table.get("model"),
        review_model=table.get("review_model"),
        provider=provider,
        effort=table.get("model_reasoning_effort"),
        plan_mode_effort=table.get("plan_mode_reasoning_effort"),
        summary=table.get("model_reasoning_summary"),
        verbosity=table.get("model_verbosity"),
        service_tier=table.get("service_tier"),
        personality=table.get("personality"),
        context_window_tokens=table.get("model_context_window"),
        auto_compact_tokens=table.get("model_auto_compact_token_limit"),
        tool_output_tokens=table.get("tool_output_token_limit"),
        catalog_file=catalog,
    )


def read_prompt(table: Mapping[str, Any], instructions: str | None) -> PromptSettings:
    """The prompt group; `instructions` is the text of `model_instructions_file`, if any."""
    return PromptSettings(
        instructions=instructions if instructions is not None else table.get("instructions"),
        developer_instructions=table.get("developer_instructions"),
        compact_prompt=table.get("compact_prompt"),
        include_permissions=table.get("include_permissions_instructions", True),
        include_environment=table.get("include_environment_context", True),
        include_environment_time=table.get("include_environment_context_time", True),
        include_apps=table.get("include_apps_instructions", True),
        include_collaboration_mode=table.get("include_collaboration_mode_instructions", True),
        doc_max_bytes=table.get("project_doc_max_bytes", DEFAULT_DOC_BYTES),
        doc_fallback_names=tuple(table.get("project_doc_fallback_filenames") or ()),
        root_markers=tuple(table.get("project_root_markers", (".git",))),
    )


def read_shell_environment(table: Mapping[str, Any]) -> ShellEnvironmentPolicy:
    """The variables that commands see."""
    values = section(table, "shell_environment_policy")
    return ShellEnvironmentPolicy(
        inherit=values.get("inherit") or "all",
        ignore_default_excludes=values.get("ignore_default_excludes", True),
        exclude=tuple(values.get("exclude") or ()),
        include_only=tuple(values.get("include_only") or ()),
        set=dict(section(values, "set")),
    )


def read_store(table: Mapping[str, Any], sqlite_folder: Path) -> StoreSettings:
    """The store group."""
    store = section(table, "experimental_thread_store")
    history = section(table, "history")
    return StoreSettings(
        kind=store.get("type", "local"),
        id=store.get("id"),
        endpoint=store.get("endpoint"),
        unload_delay_seconds=table.get("thread_unload_delay_secs", 0),
        most_in_memory=table.get("max_loaded_threads", DEFAULT_THREADS_IN_MEMORY),
        history_persistence=history.get("persistence") or "save-all",
        history_max_bytes=history.get("max_bytes"),
        sqlite_folder=sqlite_folder,
    )


def read_web(table: Mapping[str, Any]) -> WebSettings:
    """The web group."""
    limits = section(table, "web_limits")
    return WebSettings(
        search_mode=table.get("web_search"),
        timeout_ms=limits.get("timeout_ms", 20_000),
        max_bytes=limits.get("max_bytes", 2_000_000),
        max_redirects=limits.get("max_redirects", 5),
    )


def read_agents(table: Mapping[str, Any]) -> AgentSettings:
    """The sub-agents group; the table's other members are roles of the references."""
    values, switches = section(table, "agents"), read_features(table)
    threads = values.get("max_threads", values.get("max_concurrent_threads_per_session"))
    return AgentSettings(
        enabled=values.get("enabled", True)
        and switches.get("multi_agent", OBEYED["multi_agent"].default),
        max_threads=_count(threads, DEFAULT_AGENT_THREADS),
        max_depth=_count(values.get("max_depth"), DEFAULT_AGENT_DEPTH),
    )


def read_budget(table: Mapping[str, Any]) -> Budget:
    """What a thread may spend."""
    values = section(table, "budget")
    return Budget(**{name: values.get(name) for name in Budget.__struct_fields__})


def _count(value: Any, default: int) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else default


def read_features(table: Mapping[str, Any]) -> dict[str, bool]:
    """The switches; a table in place of a boolean counts by its `enabled`, true when absent."""
    return {
        name: value if isinstance(value, bool) else bool(value.get("enabled", True))
        for name, value in section(table, "features").items()
    }
