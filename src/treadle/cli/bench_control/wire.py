"""A bare HTTP client: the measured side shall be the manager, which shares the machine with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

ANSWER_SECONDS = 30.0


class Wire:
    """One connection that is kept; one request at a time."""

    def __init__(self, address: str) -> None:
        """Talk to the manager at `address`; connects on entry."""
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80

    async def __aenter__(self) -> Self:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(
            self._host, self._port, limit=1 << 22
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._writer.close()

    async def post(self, path: str, body: object, token: str = "none") -> Any:
        """The decoded answer; RuntimeError unless it is a success."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._ask(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Length: {len(data)}\r\n\r\n",
            data,
        )

    async def get(self, path: str) -> Any:
        """The decoded answer; RuntimeError unless it is a success."""
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"")

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """The data lines of an event stream, for as long as it lasts."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await self._reader.readuntil(b"\r\n\r\n")
        while line := await self._reader.readline():
            if line.startswith(b"data: "):
                yield line[6:]

    async def _ask(self, head: str, data: bytes) -> Any:
        async with asyncio.timeout(ANSWER_SECONDS):
            self._writer.write(head.encode() + data)
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            length = next(
                int(line.partition(":")[2])
                for line in lines
                if line.lower().startswith("content-length:")
            )
            body = await self._reader.readexactly(length)
        if not lines[0].startswith("HTTP/1.1 2"):
            raise RuntimeError(f"{lines[0]}: {body.decode(errors='replace')}")
        return json.loads(body)
