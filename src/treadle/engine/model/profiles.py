"""What a model provider is: its address, its credentials as values, its limits. Data alone.

The loader of the configuration resolves environment variables and builds these; nothing here reads
the environment. Named providers' quirks belong here as fields, never as branches in the clients.
"""

import msgspec

from treadle.kit.discreet import Discreet


class ProviderSettings(Discreet, frozen=True, kw_only=True):
    """One entry of `model_providers`, resolved."""

    unseen = ("bearer", "query_params", "http_headers")

    id: str
    name: str
    base_url: str
    """Such as `https://host/v1`; requests go to `/responses` below it."""
    wire_api: str = "responses"
    bearer: str | None = None
    """The token itself; None sends no `Authorization` header."""
    missing_env: str | None = None
    """Name of the variable that `env_key` asks for and that is not set: every call then fails."""
    env_key_instructions: str | None = None
    query_params: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    http_headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """`http_headers` and the resolved `env_http_headers` together; they win over our own."""
    request_max_retries: int = 4
    """How often one HTTP request is sent again after a 5xx or a transport error."""
    stream_max_retries: int = 5
    """How often the whole exchange is tried again after a broken or refused answer."""
    stream_idle_timeout_ms: int = 300_000
    """Longest silence of the provider; any byte, even of a comment, is life."""
    connect_timeout_ms: int = 15_000
    """Longest wait for a connection, TLS included."""
    installation_id: str | None = None
    """Travels in the turn metadata when known."""
