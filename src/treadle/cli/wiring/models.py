"""Model clients by provider: one connection pool and one client per distinct provider."""

from collections.abc import Hashable
from typing import Any

from treadle.config.providers import ProviderConfig
from treadle.engine.model.model_client import ModelClient
from treadle.engine.model.profiles import ProviderSettings
from treadle.engine.model.responses import ResponsesClient
from treadle.engine.model.retry import RetryingClient
from treadle.engine.model.transport import HttpTransport

_CLIENTS_KEPT = 64


class ModelClients:
    """Makes and keeps the clients of the providers in use."""

    def __init__(self, installation_id: str | None, only: ModelClient | None = None) -> None:
        """Stamp requests with `installation_id`; with `only`, every provider is that client."""
        self._installation_id = installation_id
        self._only = only
        self._transport = HttpTransport()
        self._clients: dict[Hashable, ModelClient] = {}

    def client(self, provider: ProviderConfig) -> ModelClient:
        """The client of a provider as configured now."""
        if self._only is not None:
            return self._only
        settings = _settings(provider, self._installation_id)
        key = repr(provider), settings.bearer, tuple(sorted(settings.http_headers.items()))
        known = self._clients.get(key)
        if known is None:
            known = RetryingClient(
                ResponsesClient(settings, self._transport),
                request_max_retries=settings.request_max_retries,
                stream_max_retries=settings.stream_max_retries,
            )
            if len(self._clients) >= _CLIENTS_KEPT:
                self._clients.pop(next(iter(self._clients)))
            self._clients[key] = known
        return known

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()
        if self._only is not None:
            await self._only.close()


def _settings(provider: ProviderConfig, installation_id: str | None) -> ProviderSettings:
    limits: dict[str, Any] = {
        name: value
        for name in ("request_max_retries", "stream_max_retries", "stream_idle_timeout_ms")
        if (value := getattr(provider, name)) is not None
    }
    return ProviderSettings(
        id=provider.id,
        name=provider.name,
        base_url=provider.base_url or "",
        bearer=provider.bearer,
        missing_env=provider.missing_env,
        env_key_instructions=provider.missing_env_message,
        query_params=dict(provider.query_params),
        http_headers=dict(provider.headers),
        installation_id=installation_id,
        **limits,
    )
