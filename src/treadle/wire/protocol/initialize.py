"""`initialize`: who the client is and what it wants to hear."""

from typing import Any

from treadle.domain.items import Shape


class ClientInfo(Shape, kw_only=True):
    """The client's name (fit for an HTTP header) and version."""

    name: str
    version: str
    title: str | None = None


class Capabilities(Shape, kw_only=True):
    """What the client opts into; unknown flags are tolerated."""

    experimental_api: bool = False
    opt_out_notification_methods: list[str] | None = None
    request_attestation: bool = False
    extensions: dict[str, Any] | None = None
    mcp_server_openai_form_elicitation: bool = False
    required_human_approval: bool = False


class InitializeParams(Shape, kw_only=True):
    """Parameters of `initialize`."""

    client_info: ClientInfo
    capabilities: Capabilities | None = None


class InitializeResult(Shape, kw_only=True):
    """Answer to `initialize`."""

    user_agent: str
    codex_home: str
    platform_family: str
    platform_os: str
