"""A thin typed client of the Kubernetes API: Jobs, and what is to be known of their pods.

One of the homes of httpx. Creating by name and deleting by uid are harmless when repeated, so every
call is sent again after 429, after an error of the server, and when the answer was lost; each try
has a deadline. Knows neither runs nor what a Job is for.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from treadle.control.placement.kubernetes.api_types import (
    Job,
    ListMeta,
    Meta,
    Pod,
    PodEvent,
    StatusAnswer,
)

T = TypeVar("T", Job, Pod, PodEvent)

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
WATCH_SECONDS = 50
"""The server ends a watch after so long; one that says nothing for a little longer is dead."""
WATCH_SLACK_SECONDS = 10.0
PAGE = 500
TRIES = 4
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
CONNECTIONS = 32
EVENTS_AT_MOST = 50


class ApiUnreachable(Exception):
    """No answer: refused, timed out or cut. Whether the request had an effect is unknown."""


class ApiRefused(Exception):
    """The API server refused; the text is its own."""

    def __init__(self, status: int, answer: StatusAnswer) -> None:
        """Take the status and what came with it."""
        super().__init__(f"{status} {answer.reason}: {answer.message}")
        self.status = status
        self.reason = answer.reason


class Conflict(ApiRefused):
    """The name is taken, or the object is another one by now."""


class Expired(ApiRefused):
    """What was asked for is too old to be told; list again."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API server is, and who we are there."""

    url: str
    token_file: Path | None = None
    """Read again and again: the cluster exchanges it."""
    ca_file: Path | None = None
    """The cluster's authority; None: the system's."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A resource: where it lies and what its objects are."""

    prefix: str
    plural: str
    type: type[T]

    def path(self, namespace: str) -> str:
        """Its place in a namespace."""
        return f"{self.prefix}/namespaces/{namespace}/{self.plural}"


JOBS = Kind("/apis/batch/v1", "jobs", Job)
PODS = Kind("/api/v1", "pods", Pod)
EVENTS = Kind("/api/v1", "events", PodEvent)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """All objects at one version, from which a watch goes on."""

    items: list[T]
    version: str


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What a watch tells: an object that is there or gone, or (None) only how far it is."""

    version: str
    item: T | None = None
    is_gone: bool = False


class _WatchLine(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _MetaOnly(msgspec.Struct):
    metadata: Meta


class _List(msgspec.Struct, Generic[T]):
    metadata: ListMeta
    items: list[T] | None = None


class KubernetesClient:
    """Calls within one namespace; use as an async context manager or call `close`."""

    def __init__(
        self, access: ApiAccess, namespace: str, *, watch_seconds: int = WATCH_SECONDS
    ) -> None:
        """Connect to nothing yet; `watch_seconds` is how long a watch lasts at most."""
        self._access = access
        self._namespace = namespace
        self._watch_seconds = watch_seconds
        self._http = httpx.AsyncClient(
            base_url=access.url.rstrip("/"),
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS),
            trust_env=False,
            verify=_verification(access),
        )

    async def __aenter__(self) -> "KubernetesClient":
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create_job(self, manifest: Mapping[str, Any]) -> Job:
        """Create a Job.

        Raises:
            Conflict: there is one of this name.
            ApiRefused, ApiUnreachable.
        """
        body = await self._call("POST", JOBS.path(self._namespace), content=manifest)
        try:
            return msgspec.json.decode(body, type=Job)
        except msgspec.MsgspecError as error:
            raise ApiUnreachable(f"what answered is no API server: {error}") from error

    async def delete_job(self, name: str, uid: str) -> None:
        """Delete this very Job with its pods; nothing happens when it is gone or another one.

        Raises:
            ApiRefused, ApiUnreachable.
        """
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._call("DELETE", f"{JOBS.path(self._namespace)}/{name}", content=options)
        except Conflict:
            return
        except ApiRefused as refused:
            if refused.status != 404:
                raise

    async def list_all(self, kind: Kind[T], **selectors: str) -> Listing[T]:
        """All objects that the selectors (`labelSelector`, `fieldSelector`) choose.

        Raises:
            Expired: the list changed too much between two pages.
            ApiRefused, ApiUnreachable.
        """
        items: list[T] = []
        page = ListMeta()
        while True:
            query = {**selectors, "limit": str(PAGE)}
            if page.continue_:
                query["continue"] = page.continue_
            body = await self._call("GET", kind.path(self._namespace), query=query)
            page, more = _decode_list(body, kind.type)
            items += more
            if not page.continue_:
                return Listing(items, page.resource_version)

    async def watch(
        self, kind: Kind[T], version: str, **selectors: str
    ) -> AsyncIterator[Change[T]]:
        """Changes after a version, until the server ends the watch.

        Raises:
            Expired: the version is too old; list again.
            ApiRefused, ApiUnreachable: try again from the last version that was told.
        """
        query = {
            **selectors,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(self._watch_seconds),
        }
        silence = self._watch_seconds + WATCH_SLACK_SECONDS
        try:
            async with self._http.stream(
                "GET",
                kind.path(self._namespace),
                params=query,
                headers=self._headers(),
                timeout=httpx.Timeout(silence, connect=CONNECT_SECONDS),
            ) as response:
                if response.status_code != 200:
                    raise _refusal(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line:
                        yield _decode_change(line, kind.type)
        except httpx.HTTPError as error:
            raise ApiUnreachable(_why(error)) from error

    async def events_of(self, pod_name: str) -> list[PodEvent]:
        """What the cluster says of a pod, newest last as a rule; at most a page of it."""
        query = {
            "fieldSelector": f"involvedObject.kind=Pod,involvedObject.name={pod_name}",
            "limit": str(EVENTS_AT_MOST),
        }
        body = await self._call("GET", EVENTS.path(self._namespace), query=query)
        return _decode_list(body, PodEvent)[1]

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> bytes:
        body = None if content is None else msgspec.json.encode(content)
        for attempt in range(1, TRIES + 1):
            wait = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
            try:
                answer = await self._http.request(
                    method, path, params=query, content=body, headers=self._headers()
                )
            except httpx.HTTPError as error:
                if attempt == TRIES:
                    raise ApiUnreachable(_why(error)) from error
                await asyncio.sleep(wait)
                continue
            if answer.is_success:
                return answer.content
            refusal = _refusal(answer.status_code, answer.content)
            if attempt == TRIES or not (answer.status_code == 429 or answer.status_code >= 500):
                raise refusal
            await asyncio.sleep(max(wait, _retry_after(answer)))
        raise AssertionError("unreachable")

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._access.token_file is not None:
            try:
                token = self._access.token_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                where = self._access.token_file
                raise ApiUnreachable(f"cannot read the token {where}: {error.strerror}") from error
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _verification(access: ApiAccess) -> ssl.SSLContext | bool:
    if not access.url.startswith("https:"):
        return False
    return ssl.create_default_context(cafile=access.ca_file) if access.ca_file else True


def _decode_list(body: bytes, item: type[T]) -> tuple[ListMeta, list[T]]:
    try:
        found = msgspec.json.decode(body, type=_List[item])
    except msgspec.MsgspecError as error:
        raise ApiUnreachable(f"what answered is no API server: {error}") from error
    return found.metadata, found.items or []


def _decode_change(line: str, item: type[T]) -> Change[T]:
    try:
        told = msgspec.json.decode(line, type=_WatchLine)
        if told.type == "ERROR":
            raise _refusal(0, bytes(told.object))
        if told.type == "BOOKMARK":
            meta = msgspec.json.decode(told.object, type=_MetaOnly).metadata
            return Change(meta.resource_version)
        found = msgspec.json.decode(told.object, type=item)
        version = msgspec.json.decode(told.object, type=_MetaOnly).metadata.resource_version
    except msgspec.MsgspecError as error:
        raise ApiUnreachable(f"a watch told what is no object: {error}") from error
    return Change(version, found, is_gone=told.type == "DELETED")


def _refusal(status: int, body: bytes) -> ApiRefused:
    try:
        answer = msgspec.json.decode(body, type=StatusAnswer)
    except msgspec.MsgspecError:
        answer = StatusAnswer(message=body[:200].decode(errors="replace"))
    code = status or answer.code
    kind = {409: Conflict, 410: Expired}.get(code, ApiRefused)
    return kind(code, answer)


def _retry_after(answer: httpx.Response) -> float:
    try:
        asked = float(answer.headers.get("Retry-After", "0"))
    except ValueError:  # a date, which no API server sends
        return 0.0
    return min(max(asked, 0.0), LONGEST_PAUSE_SECONDS)


def _why(error: Exception) -> str:
    return f"the API server did not answer ({type(error).__name__}: {error})"
