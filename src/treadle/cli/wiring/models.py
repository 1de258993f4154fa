"""Model clients by provider: one connection pool and one client per distinct provider."""

import asyncio
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from treadle.config.providers import ProviderConfig
from treadle.engine.model.late_client import LateClient
from treadle.engine.model.profiles import ProviderSettings
from treadle.kit.late import Late
from treadle.kit.tasks import give_way

if TYPE_CHECKING:
    from treadle.engine.model.cassette import CassettePlayer
    from treadle.engine.model.model_client import ModelClient
    from treadle.engine.model.transport import HttpTransport

_CLIENTS_KEPT = 64

CASSETTE_SCHEME = "cassette:"
"""A provider whose `base_url` begins like this plays a recording instead of calling anybody."""


class ModelClients:
    """Makes and keeps the clients of the providers in use."""

    def __init__(self, installation_id: str | None, record_to: Path | None = None) -> None:
        """Stamp requests with `installation_id`; with `record_to`, record all exchanges there."""
        self._installation_id = installation_id
        self._record_to = record_to
        self._transport = Late(_transport)
        self._clients: dict[Hashable, LateClient] = {}

    def client(self, provider: ProviderConfig) -> "ModelClient":
        """The client of a provider as configured now."""
        settings = _settings(provider, self._installation_id)
        key = repr(provider), settings.bearer, tuple(sorted(settings.http_headers.items()))
        known = self._clients.get(key)
        if known is None:
            known = LateClient(lambda: self._make(settings))
            if len(self._clients) >= _CLIENTS_KEPT:
                self._clients.pop(next(iter(self._clients)))
            self._clients[key] = known
        return known

    def _make(self, settings: ProviderSettings) -> "ModelClient":
        if settings.base_url.startswith(CASSETTE_SCHEME):
            return _player(settings.base_url)
        from treadle.engine.model.responses import ResponsesClient
        from treadle.engine.model.retry import RetryingClient

        client: ModelClient = RetryingClient(
            ResponsesClient(settings, self._transport()),
            request_max_retries=settings.request_max_retries,
            stream_max_retries=settings.stream_max_retries,
        )
        if self._record_to is None:
            return client
        from treadle.engine.model.cassette import CassetteRecorder

        return CassetteRecorder(client, self._record_to)

    async def close(self) -> None:
        """Close all connections."""
        if self._transport.made is not None:
            await self._transport.made.close()


def _transport() -> "HttpTransport":
    from treadle.engine.model.transport import HttpTransport

    return HttpTransport()


async def load_for_turns(provider: ProviderConfig) -> None:
    """Load what the first request to a provider needs, while nobody waits.

    Whoever opens a thread will want a turn: the HTTP client alone takes 90 ms to load.
    """
    await give_way()
    if not (provider.base_url or "").startswith(CASSETTE_SCHEME):
        await asyncio.to_thread(_load_transport)


def _load_transport() -> None:
    from treadle.engine.model.transport import load_library

    load_library()


def _player(url: str) -> "CassettePlayer":
    """The recording at `cassette:///PATH?paceMs=N`."""
    from treadle.engine.model.cassette import CassettePlayer

    parts = urlsplit(url)
    pace_ms = parse_qs(parts.query).get("paceMs", ["0"])[0]
    return CassettePlayer(Path(parts.path), pace_seconds=int(pace_ms) / 1000)


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
