"""Settings as rollout files spell them: turn contexts and applied settings, and back.

Two generations name the sandbox differently (`sandbox_policy`, `permission_profile`); both are
written, and whichever is present is read.
"""

from typing import Any, cast

from treadle.domain.policy import (
    DangerFullAccess,
    ExternalSandbox,
    ReadOnly,
    SandboxPolicy,
    Settings,
    WorkspaceWrite,
    default_mode,
)
from treadle.engine.store.local.names import text_or_none

Json = dict[str, Any]

_GUARDED = (".git", ".agents", ".codex")
"""Folders below a writable root that stay read-only in the newer spelling."""


def turn_context_to_file(settings: Settings, turn_id: str) -> Json:
    """Payload of a `turn_context` line."""
    return {
        "turn_id": turn_id,
        "root_turn_id": turn_id,
        "cwd": settings.cwd,
        **_common(settings),
        "effort": settings.effort,
        "summary": settings.summary or "auto",
        "sandbox_policy": sandbox_to_file(settings.sandbox),
        "model_provider_id": settings.model_provider,
        "service_tier": settings.service_tier,
        "personality": settings.personality,
        "runtime_workspace_roots": list(settings.workspace_roots),
    }


def settings_to_file(settings: Settings) -> Json:
    """The `thread_settings` object of a `thread_settings_applied` event."""
    return {
        "model_provider_id": settings.model_provider,
        "cwd": settings.cwd,
        **_common(settings),
        "reasoning_effort": settings.effort,
        "reasoning_summary": settings.summary,
        "service_tier": settings.service_tier,
        "personality": settings.personality,
        "runtime_workspace_roots": list(settings.workspace_roots),
        "sandbox_policy": sandbox_to_file(settings.sandbox),
        "disabled_plugin_ids": [],
    }


def settings_from_file(entry: Json, provider: str) -> Settings:
    """Settings of a `turn_context` payload or of a `thread_settings` object.

    `provider` counts where the entry names none (turn contexts of other programs).
    """
    mode = cast("Json | None", entry.get("collaboration_mode"))
    chosen = cast("Json", (mode or {}).get("settings") or {})
    effort = entry.get("effort") or entry.get("reasoning_effort") or chosen.get("reasoning_effort")
    model = str(entry.get("model") or chosen.get("model") or "")
    return Settings(
        model=model,
        model_provider=str(entry.get("model_provider_id") or provider),
        cwd=str(entry.get("cwd") or ""),
        approval_policy=entry.get("approval_policy") or "on-request",
        sandbox=_sandbox_of(entry),
        approvals_reviewer=str(entry.get("approvals_reviewer") or "user"),
        effort=text_or_none(effort),
        summary=text_or_none(entry.get("summary") or entry.get("reasoning_summary")),
        service_tier=text_or_none(entry.get("service_tier")),
        workspace_roots=tuple(map(str, entry.get("runtime_workspace_roots") or ())),
        personality=text_or_none(entry.get("personality")),
        collaboration_mode=None if mode == default_mode(model, effort) else mode,
    )


def sandbox_to_file(policy: SandboxPolicy) -> Json:
    """A sandbox policy under its kebab-case tag."""
    if isinstance(policy, DangerFullAccess):
        return {"type": "danger-full-access"}
    if isinstance(policy, ReadOnly):
        return {"type": "read-only", "network_access": policy.network_access}
    if isinstance(policy, ExternalSandbox):
        return {"type": "external-sandbox", "network_access": policy.network_access}
    return {
        "type": "workspace-write",
        "writable_roots": list(policy.writable_roots),
        "network_access": policy.network_access,
        "exclude_tmpdir_env_var": policy.exclude_tmpdir_env_var,
        "exclude_slash_tmp": policy.exclude_slash_tmp,
    }


def sandbox_from_file(entry: Json) -> SandboxPolicy:
    """A sandbox policy of any spelling; the strictest when it is unknown."""
    kind = str(entry.get("type") or entry.get("mode") or "")
    if kind == "danger-full-access":
        return DangerFullAccess()
    if kind == "external-sandbox":
        enabled = entry.get("network_access") in ("enabled", True)
        return ExternalSandbox(network_access="enabled" if enabled else "restricted")
    if kind == "workspace-write":
        return WorkspaceWrite(
            writable_roots=tuple(entry.get("writable_roots") or ()),
            network_access=bool(entry.get("network_access")),
            exclude_tmpdir_env_var=bool(entry.get("exclude_tmpdir_env_var")),
            exclude_slash_tmp=bool(entry.get("exclude_slash_tmp")),
        )
    return ReadOnly(network_access=bool(entry.get("network_access")))


def _sandbox_of(entry: Json) -> SandboxPolicy:
    policy = entry.get("sandbox_policy")
    if isinstance(policy, dict):
        return sandbox_from_file(cast("Json", policy))
    profile = entry.get("permission_profile")
    return _sandbox_from_profile(cast("Json", profile)) if isinstance(profile, dict) else ReadOnly()


def _sandbox_from_profile(profile: Json) -> SandboxPolicy:
    if profile.get("type") == "disabled":
        return DangerFullAccess()
    network = profile.get("network") == "enabled"
    if profile.get("type") == "external":
        return ExternalSandbox(network_access="enabled" if network else "restricted")
    files = cast("Json", profile.get("file_system") or {})
    entries = cast("list[Json]", files.get("entries") or [])
    writable = [entry for entry in entries if entry.get("access") == "write"]
    return WorkspaceWrite(network_access=network) if writable else ReadOnly(network_access=network)


def _common(settings: Settings) -> Json:
    return {
        "model": settings.model,
        "approval_policy": settings.approval_policy,
        "approvals_reviewer": settings.approvals_reviewer,
        "permission_profile": profile_to_file(settings),
        "collaboration_mode": settings.mode,
    }


def profile_to_file(settings: Settings) -> Json:
    """The newer spelling of a sandbox policy."""
    policy = settings.sandbox
    if isinstance(policy, DangerFullAccess):
        return {"type": "disabled"}
    if isinstance(policy, ExternalSandbox):
        return {"type": "external", "network": policy.network_access}
    return _managed_profile(policy, settings.cwd)


def _managed_profile(policy: ReadOnly | WorkspaceWrite, cwd: str) -> Json:
    entries = [_entry({"type": "special", "value": {"kind": "root"}}, "read")]
    if isinstance(policy, WorkspaceWrite):
        roots = dict.fromkeys((cwd, *policy.writable_roots))
        entries += [_entry({"type": "path", "path": root}, "write") for root in roots]
        if not policy.exclude_slash_tmp:
            entries.append(_entry({"type": "special", "value": {"kind": "slash_tmp"}}, "write"))
        if not policy.exclude_tmpdir_env_var:
            entries.append(_entry({"type": "special", "value": {"kind": "tmpdir"}}, "write"))
        entries += [
            {
                **_entry({"type": "path", "path": f"{root}/{name}"}, "read"),
                "missing_path_behavior": "skip",
            }
            for root in roots
            for name in _GUARDED
        ]
    files = {"type": "restricted", "entries": entries}
    network = "enabled" if policy.network_access else "restricted"
    return {"type": "managed", "file_system": files, "network": network}


def _entry(path: Json, access: str) -> Json:
    return {"path": path, "access": access}
