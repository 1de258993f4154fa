"""The first line of a rollout: who began the thread, and what its log builds upon."""

from typing import Any, cast

import msgspec

from treadle.domain.records import ThreadCreated
from treadle.engine.store.local.names import camel, text_or_none
from treadle.kit.clock import iso_millis, parse_iso

Json = dict[str, Any]

_SOURCES_IN_FILES = {"appServer": "mcp"}
_SOURCES = {"mcp": "appServer"}


class HistoryBase(msgspec.Struct, frozen=True):
    """A log's beginning lies in another file: `thread_id`'s, up to this ordinal and byte."""

    thread_id: str
    end_ordinal_exclusive: int
    end_byte_offset: int


def history_base(payload: Json) -> HistoryBase | None:
    """What a head builds upon; None when its file is the whole log."""
    try:
        return msgspec.convert(payload.get("history_base"), HistoryBase | None)
    except msgspec.ValidationError:
        return None


def created_to_file(created: ThreadCreated) -> Json:
    """Payload of a `session_meta` line."""
    payload: Json = {
        "session_id": created.session_id,
        "id": created.thread_id,
        "forked_from_id": created.forked_from_id,
        "parent_thread_id": created.parent_thread_id,
        "timestamp": iso_millis(created.at),
        "cwd": created.cwd,
        "runtime_workspace_roots": [created.cwd],
        "originator": created.originator,
        "cli_version": created.cli_version,
        "source": _source_to_file(created.source),
        "thread_source": created.thread_source,
        "agent_nickname": created.agent_nickname,
        "agent_role": created.agent_role,
        "model_provider": created.model_provider,
        "history_mode": created.history_mode,
        "dynamic_tools": created.dynamic_tools,
        "git": _git_to_file(created.git),
        "developer_instructions": created.developer_instructions,
    }
    if created.base_instructions is not None:
        provenance = {"type": "custom"}
        payload["base_instructions"] = {"text": created.base_instructions, "provenance": provenance}
    return {key: value for key, value in payload.items() if value is not None}


def created_from_file(payload: Json, at: float) -> ThreadCreated:
    """The head's record, with what is known; raises KeyError without an id.

    Args:
        payload: the `session_meta` object, or the whole first line of a very old file.
        at: seconds to use where the head tells no time.
    """
    began = payload.get("timestamp")
    instructions = payload.get("base_instructions")
    base = cast("Json", instructions).get("text") if isinstance(instructions, dict) else None
    git = payload.get("git")
    return ThreadCreated(
        at=_seconds(began, at),
        thread_id=str(payload["id"]),
        session_id=str(payload.get("session_id") or payload["id"]),
        cwd=str(payload.get("cwd") or "/"),
        originator=str(payload.get("originator") or ""),
        cli_version=str(payload.get("cli_version") or ""),
        source=_source_from_file(payload.get("source")),
        model_provider=str(payload.get("model_provider") or ""),
        thread_source=text_or_none(payload.get("thread_source")),
        forked_from_id=text_or_none(payload.get("forked_from_id")),
        parent_thread_id=text_or_none(
            payload.get("parent_thread_id") or _parent_of(payload.get("source"))
        ),
        base_instructions=text_or_none(base or payload.get("instructions")),
        developer_instructions=text_or_none(payload.get("developer_instructions")),
        dynamic_tools=_tools(payload.get("dynamic_tools")),
        git=_git_from_file(cast("Json", git)) if isinstance(git, dict) else None,
        agent_nickname=text_or_none(payload.get("agent_nickname")),
        agent_role=text_or_none(payload.get("agent_role")),
        history_mode=str(payload.get("history_mode") or "legacy"),
    )


def _tools(value: Any) -> list[Json] | None:
    if not isinstance(value, list):
        return None
    return [tool for tool in cast("list[Json]", value) if isinstance(tool, dict)]  # pyright: ignore[reportUnnecessaryIsInstance] - files say what they like


def _seconds(began: Any, at: float) -> float:
    try:
        return parse_iso(str(began)) if began else at
    except ValueError:
        return at


def _source_to_file(source: Any) -> Any:
    if isinstance(source, str):
        return _SOURCES_IN_FILES.get(source, source)
    entries = cast("Json", source)
    return {"subagent" if key == "subAgent" else key: value for key, value in entries.items()}


def _source_from_file(source: Any) -> Any:
    """A head without a source counts as interactive, as the references have it."""
    if source is None:
        return "vscode"
    if isinstance(source, str):
        return _SOURCES.get(source, source)
    if not isinstance(source, dict):
        return "unknown"
    entries = cast("Json", source)
    return {"subAgent" if key == "subagent" else key: value for key, value in entries.items()}


def _parent_of(source: Any) -> str | None:
    if not isinstance(source, dict):
        return None
    child = cast("Json", source).get("subagent")
    spawn = cast("Json", child).get("thread_spawn") if isinstance(child, dict) else None
    return cast("Json", spawn).get("parent_thread_id") if isinstance(spawn, dict) else None


_GIT = {"sha": "commit_hash", "branch": "branch", "originUrl": "repository_url"}


def _git_to_file(git: Json | None) -> Json | None:
    if git is None:
        return None
    return {name: git[key] for key, name in _GIT.items() if git.get(key) is not None}


def _git_from_file(git: Json) -> Json:
    known = {key: git.get(name) for key, name in _GIT.items()}
    others = {camel(key): value for key, value in git.items() if key not in _GIT.values()}
    return {**known, **others}
