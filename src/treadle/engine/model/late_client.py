"""A model client that is made for its first request: many threads are opened without any."""

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from treadle.kit.late import Late

if TYPE_CHECKING:
    from treadle.engine.model.model_client import ModelClient, ModelEvent, ModelRequest


class LateClient:
    """Stands for the client that `make` gives."""

    def __init__(self, make: "Callable[[], ModelClient]") -> None:
        """Call `make` once, at the first use."""
        self._client = Late(make)

    def stream(self, request: "ModelRequest") -> "AsyncGenerator[list[ModelEvent], None]":
        """See `ModelClient.stream`."""
        return self._client().stream(request)

    async def close(self) -> None:
        """See `ModelClient.close`."""
        if self._client.made is not None:
            await self._client.made.close()
