"""A pretended Kubernetes API server for tests: Jobs, pods and their events in one namespace.

    async with FakeKubernetes() as kubernetes:
        access = kubernetes.url, kubernetes.token
        kubernetes.disturb("POST jobs", Disturbance(status=429, retry_after=0.1), times=2)

Speaks enough HTTP for clients that list (in pages), watch (with bookmarks, 410 after `compact`),
create and delete (409, preconditions). Each call is counted in `calls`. What a cluster does with
Jobs is done by `fake_kubelet.Kubelet`, where one is wanted. Described in docs/testing.md.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from treadle.kit.tasks import TaskScope
from treadle.testing.fake_cluster import KINDS, FakeCluster, Object, Refused, chosen

MAX_BODY = 4 * 1024 * 1024
REASONS = {
    200: "OK",
    201: "Created",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass(frozen=True)
class Disturbance:
    """What happens to a call instead of its answer."""

    status: int | None = None
    """Refuse with this status."""
    retry_after: float | None = None
    """With a `Retry-After` of so many seconds."""
    stall: float | None = None
    """Say nothing for so many seconds, then go on."""
    do_it: bool = False
    """Do what was asked all the same, and lose the answer."""


@dataclass(frozen=True)
class _Request:
    method: str
    plural: str
    name: str
    query: dict[str, str]
    body: Object
    token: str


class FakeKubernetes:
    """The server; use as an async context manager."""

    def __init__(self, cluster: FakeCluster | None = None, *, token: str | None = None) -> None:
        """Serve `cluster`, to callers with `token` if one is given."""
        self.cluster = cluster or FakeCluster()
        self.token = token
        self.calls: Counter[str] = Counter()
        """How often each was called, as in `POST jobs` or `WATCH pods`."""
        self.url = ""
        self.bookmark_seconds = 1.0
        self.watches_are_shut = False
        self._disturbances: dict[str, list[Disturbance]] = {}
        self._watchers: set[asyncio.StreamWriter] = set()
        self._connections = TaskScope("fake-kubernetes")
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "FakeKubernetes":
        """Listen on a free port of this machine."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all connections."""
        assert self._server is not None
        self._server.close()
        await self._connections.close()
        await asyncio.sleep(0)  # transports close a turn of the loop later

    def disturb(self, call: str, disturbance: Disturbance, times: int = 1) -> None:
        """Let the next so many calls, as in `POST jobs`, go wrong."""
        self._disturbances.setdefault(call, []).extend([disturbance] * times)

    def break_watches(self) -> None:
        """Cut all watches that are open."""
        for writer in self._watchers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.start(self._converse(reader, writer), "connection")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while (request := await _read(reader)) is not None:
                    if not await self._serve(request, writer):
                        break
        finally:
            writer.close()

    async def _serve(self, request: _Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another may follow on this connection."""
        watches = request.method == "GET" and request.query.get("watch") in {"1", "true"}
        call = f"{'WATCH' if watches else request.method} {request.plural}"
        self.calls[call] += 1
        waiting = self._disturbances.get(call)
        disturbance = waiting.pop(0) if waiting else Disturbance()
        if disturbance.stall is not None:
            await asyncio.sleep(disturbance.stall)
        if disturbance.status is not None:
            _answer(writer, disturbance.status, _status(disturbance.status), disturbance)
            return True
        if self.token is not None and request.token != self.token:
            _answer(writer, 401, _status(401))
            return True
        if watches:
            await self._watch(request, writer)
            return False
        try:
            status, body = await self._do(request)
        except Refused as refused:
            status, body = refused.code, _status(refused.code, str(refused), refused.reason)
        if disturbance.do_it:
            writer.transport.abort()
            return False
        _answer(writer, status, body)
        await writer.drain()
        return True

    async def _do(self, request: _Request) -> tuple[int, Object]:
        if request.plural not in KINDS:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        acts: dict[str, Callable[[_Request], Awaitable[tuple[int, Object]]]] = {
            "GET": self._list,
            "POST": self._create,
            "DELETE": self._delete,
        }
        act = acts.get(request.method)
        if act is None:
            raise Refused(405, "MethodNotAllowed", "not offered here")
        return await act(request)

    async def _create(self, request: _Request) -> tuple[int, Object]:
        return 201, await self.cluster.create(request.plural, request.body)

    async def _delete(self, request: _Request) -> tuple[int, Object]:
        preconditions: Object = request.body.get("preconditions") or {}
        uid = preconditions.get("uid")
        return 200, await self.cluster.delete(request.plural, request.name, uid)

    async def _list(self, request: _Request) -> tuple[int, Object]:
        found = self.cluster.objects[request.plural]
        items = [found[name] for name in sorted(found) if chosen(found[name], request.query)]
        start = int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or len(items) or 1)
        metadata = {"resourceVersion": str(self.cluster.version)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        kind = KINDS[request.plural] + "List"
        return 200, {"kind": kind, "metadata": metadata, "items": items[start : start + limit]}

    async def _watch(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        after = int(request.query.get("resourceVersion") or self.cluster.version)
        if self.watches_are_shut:
            _answer(writer, 503, _status(503))
            return
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        writer.write((head + "\r\n").encode())
        self._watchers.add(writer)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds") or 60)):
                reached: int | None = after
                while reached is not None:
                    reached = await self._tell(request, writer, reached)
        except TimeoutError:
            writer.write(b"0\r\n\r\n")
        finally:
            self._watchers.discard(writer)

    async def _tell(
        self, request: _Request, writer: asyncio.StreamWriter, after: int
    ) -> int | None:
        """Tell what came after a version, then wait for more; how far it is, None at the end."""
        cluster = self.cluster
        if after < cluster.oldest:
            _chunk(writer, "ERROR", _status(410, "too old resource version"))
            writer.write(b"0\r\n\r\n")
            return None
        for told in [each for each in cluster.changes if each.version > after]:
            if told.plural == request.plural and chosen(told.object, request.query):
                _chunk(writer, told.type, told.object)
        reached = cluster.version
        await writer.drain()
        async with cluster.changed:
            news = cluster.changed.wait_for(lambda: cluster.version > reached)
            try:
                await asyncio.wait_for(news, self.bookmark_seconds)
            except TimeoutError:
                mark = {"metadata": {"resourceVersion": str(reached)}}
                _chunk(writer, "BOOKMARK", {"kind": KINDS[request.plural], **mark})
        return reached


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """The next request; None at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    length = min(int(headers.get("content-length") or 0), MAX_BODY)
    body = await reader.readexactly(length)
    url = urlsplit(target)
    _, _, place = url.path.partition("/namespaces/")
    _, plural, name, *_ = [*place.split("/"), "", "", ""]
    return _Request(
        method,
        plural,
        name,
        dict(parse_qsl(url.query)),
        json.loads(body) if body else {},
        headers.get("authorization", "").removeprefix("Bearer "),
    )


def _answer(
    writer: asyncio.StreamWriter, status: int, body: Any, disturbance: Disturbance | None = None
) -> None:
    text = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Refused')}",
        "Content-Type: application/json",
        f"Content-Length: {len(text)}",
    ]
    if disturbance is not None and disturbance.retry_after is not None:
        lines.append(f"Retry-After: {disturbance.retry_after}")
    writer.write("\r\n".join([*lines, "", ""]).encode() + text)


def _chunk(writer: asyncio.StreamWriter, told: str, body: Object) -> None:
    line = json.dumps({"type": told, "object": body}).encode() + b"\n"
    writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")


def _status(code: int, message: str = "", reason: str = "") -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or "so the test wants it",
        "reason": reason or REASONS.get(code, ""),
        "code": code,
    }
