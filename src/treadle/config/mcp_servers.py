"""`mcp_servers` of a checked configuration, every value resolved.

Names of variables become their values here, from the snapshot of the environment: a server gets a
few harmless ones, those it names, and nothing else. Pure.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from treadle.config.environment import Environment
from treadle.config.layers import section
from treadle.engine.tools.mcp_settings import (
    CALL_SECONDS,
    STARTUP_SECONDS,
    HttpTransport,
    ServerSettings,
    StdioTransport,
    Transport,
)

INHERITED = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
)
"""What a server inherits without being asked (0.169.0)."""


class _Unresolved(Exception):
    """A server cannot be reached as configured; the text says what to set."""


def read_mcp_servers(
    table: Mapping[str, Any],
    environment: Environment,
    cwd: Path,
    login_home: Callable[[str], str] = lambda _url: "",
) -> list[ServerSettings]:
    """The servers of a merged table, in the order of names; commands run in `cwd` by default.

    `login_home` gives the home folder with a login at a URL, empty where there is none.
    """
    servers = section(table, "mcp_servers")
    read = [_read(name, servers[name], environment, cwd) for name in sorted(servers)]
    return [_with_login(settings, login_home) for settings in read]


def _with_login(settings: ServerSettings, login_home: Callable[[str], str]) -> ServerSettings:
    transport = settings.transport
    if not isinstance(transport, HttpTransport):
        return settings
    if any(name.lower() == "authorization" for name, _ in transport.headers):
        return settings  # what is configured wins
    home = login_home(transport.url)
    if not home:
        return settings
    return msgspec.structs.replace(
        settings, transport=msgspec.structs.replace(transport, login_home=home)
    )


def _read(name: str, row: Mapping[str, Any], environment: Environment, cwd: Path) -> ServerSettings:
    transport: Transport | None = None
    problem: str | None = None
    try:
        transport = _http(row, environment) if "url" in row else _stdio(row, environment, cwd)
    except _Unresolved as error:
        problem = str(error)
    tools: Mapping[str, Any] = row.get("tools") or {}
    switched_off = (tool for tool, of in tools.items() if of.get("enabled") is False)
    enabled_tools = row.get("enabled_tools")
    return ServerSettings(
        name=name,
        transport=transport,
        problem=problem,
        enabled=row.get("enabled", True),
        required=row.get("required", False),
        startup_seconds=_startup_seconds(row),
        call_seconds=float(row.get("tool_timeout_sec", CALL_SECONDS)),
        enabled_tools=None if enabled_tools is None else frozenset(enabled_tools),
        disabled_tools=frozenset((*(row.get("disabled_tools") or ()), *switched_off)),
        approval=row.get("default_tools_approval_mode") or "auto",
        tool_approvals={
            tool: of["approval_mode"] for tool, of in tools.items() if of.get("approval_mode")
        },
        bearer=bool(row.get("bearer_token_env_var")),
    )


def _startup_seconds(row: Mapping[str, Any]) -> float:
    if row.get("startup_timeout_sec") is not None:
        return float(row["startup_timeout_sec"])
    if row.get("startup_timeout_ms") is not None:
        return row["startup_timeout_ms"] / 1000
    return STARTUP_SECONDS


def _stdio(row: Mapping[str, Any], environment: Environment, cwd: Path) -> StdioTransport:
    variables = environment.variables
    named = (entry if isinstance(entry, str) else entry["name"] for entry in _env_vars(row))
    env = {key: variables[key] for key in (*INHERITED, *named) if key in variables}
    env |= row.get("env") or {}
    folder = environment.expand(row["cwd"], cwd) if row.get("cwd") else cwd
    return StdioTransport(
        argv=(row["command"], *(row.get("args") or ())),
        cwd=str(folder),
        env=tuple(sorted(env.items())),
    )


def _env_vars(row: Mapping[str, Any]) -> Iterable[Any]:
    for entry in row.get("env_vars") or ():
        if not isinstance(entry, str) and not isinstance(entry.get("name"), str):
            raise _Unresolved("a table in `env_vars` needs a `name`")
        yield entry


def _http(row: Mapping[str, Any], environment: Environment) -> HttpTransport:
    if row.get("bearer_token"):
        raise _Unresolved(
            "`bearer_token` is not read from files: put the token into a variable and name that "
            "in `bearer_token_env_var`"
        )
    headers: dict[str, str] = dict(row.get("http_headers") or {})
    from_variables: dict[str, str] = row.get("env_http_headers") or {}
    for header, variable in from_variables.items():
        if value := environment.get(variable):
            headers[header] = value
    variable = row.get("bearer_token_env_var")
    if variable:
        token = environment.get(variable)
        if token is None:
            raise _Unresolved(f"environment variable {variable} with its bearer token is not set")
        headers["Authorization"] = f"Bearer {token}"
    return HttpTransport(url=row["url"], headers=tuple(sorted(headers.items())))
