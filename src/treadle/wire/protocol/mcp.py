"""Parameters and results of `mcpServer*` and `config/mcpServer/reload`."""

from typing import Any, Literal

import msgspec

from treadle.domain.items import Shape
from treadle.wire.protocol.numbers import U32


class ServerStatusParams(Shape, kw_only=True):
    """Parameters of `mcpServerStatus/list`."""

    thread_id: str | None = None
    server_name: str | None = None
    detail: Literal["full", "toolsAndAuthOnly"] | None = None
    cursor: str | None = None
    limit: U32 | None = None


class ServerStatusResult(Shape, kw_only=True):
    """A page of servers, each with what it offers."""

    data: list[dict[str, Any]]
    next_cursor: str | None = None


class ToolCallParams(Shape, kw_only=True):
    """Parameters of `mcpServer/tool/call`."""

    thread_id: str
    server: str
    tool: str
    arguments: Any = None
    meta: Any = msgspec.field(name="_meta", default=None)


class ToolCallResult(Shape, kw_only=True, omit_defaults=True):
    """What the tool returned."""

    content: list[Any]
    structured_content: Any = None
    is_error: bool | None = None
    meta: Any = msgspec.field(name="_meta", default=None)


class ResourceReadParams(Shape, kw_only=True):
    """Parameters of `mcpServer/resource/read`."""

    server: str
    uri: str
    thread_id: str | None = None


class ResourceReadResult(Shape, kw_only=True):
    """The parts of a resource: texts, or bytes in base64."""

    contents: list[dict[str, Any]]


class OauthLoginParams(Shape, kw_only=True):
    """Parameters of `mcpServer/oauth/login`."""

    name: str
    scopes: list[str] | None = None
    timeout_secs: int | None = None
    thread_id: str | None = None


class OauthLoginResult(Shape, kw_only=True):
    """Where the user is to log in; how it went is told later, under the same id."""

    authorization_url: str
    login_id: str | None = None
