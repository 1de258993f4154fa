"""A client of several managers that never pretends to know: an answer, or `Unknown`."""

import asyncio
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

ANSWER_SECONDS = 8.0
RETRY_SECONDS = (0.05, 0.4)


class Unknown(Exception):
    """No answer came: it may have happened or not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a manager said."""

    status: int
    body: Any
    content: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.status < 300

    @property
    def code(self) -> str:
        """The stable word of a refusal."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""

    @property
    def passes(self) -> bool:
        """Whether the same request may be sent again."""
        return self.status in {500, 502, 503}


class Api:
    """Asks any of the managers, another one each time."""

    def __init__(self, urls: list[str], rng: random.Random) -> None:
        self._urls = urls
        self._rng = rng
        self._http: aiohttp.ClientSession | None = None
        self.asked = 0
        self.unknown = 0
        self.odd: list[str] = []
        """Answers that no fault explains."""

    async def __aenter__(self) -> Self:
        """Open the connections."""
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close them."""
        await self.http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        """The session; fails before it is open."""
        assert self._http is not None
        return self._http

    def any_url(self) -> str:
        """One of the managers."""
        return self._rng.choice(self._urls)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str = "",
        seconds: float = ANSWER_SECONDS,
    ) -> Answer:
        """One request to one manager; raises Unknown."""
        self.asked += 1
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else msgspec.json.encode(body)
        url = f"{self.any_url()}/api/v1{path}"
        try:
            async with asyncio.timeout(seconds):
                async with self.http.request(method, url, data=data, headers=headers) as answer:
                    content = await answer.read()
                    return Answer(answer.status, msgspec.json.decode(content), content)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            self.unknown += 1
            raise Unknown(repr(error)) from error

    async def insist(self, method: str, path: str, body: Any = None, token: str = "") -> Answer:
        """The same request until it is answered for good."""
        while True:
            try:
                answer = await self.ask(method, path, body, token)
            except Unknown:
                pass
            else:
                if not answer.passes:
                    return answer
                if answer.status == 500:
                    self.odd.append(f"{method} {path}: {answer.body}")
            await self.pause()

    async def pause(self) -> None:
        """Wait before the next try."""
        await asyncio.sleep(self._rng.uniform(*RETRY_SECONDS))
