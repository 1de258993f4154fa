"""The state of a pretended Kubernetes namespace: objects, versions, what watchers are told.

Holds Jobs, pods, pod events and Secrets as plain JSON objects, gives each change the next resource
version and keeps the changes for watchers until `compact`. Knows no HTTP and starts nothing; how
Jobs become pods, and what becomes of pods, is in `fake_kubelet`.
"""

import asyncio
import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from treadle.kit.clock import SystemClock

Object = dict[str, Any]
KINDS = {"jobs": "Job", "pods": "Pod", "events": "Event"}


class Refused(Exception):
    """A request that the API server refuses."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        """Take what the answer says."""
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass
class Told:
    """A change as watchers hear of it."""

    version: int
    plural: str
    type: str
    object: Object


@dataclass
class FakeCluster:
    """One namespace; every change goes through `put` and `remove`."""

    objects: dict[str, dict[str, Object]] = field(
        default_factory=lambda: {plural: {} for plural in KINDS}
    )
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    """Contents of Secrets by name and key; pods wait for those they mount."""
    version: int = 100
    changes: list[Told] = field(default_factory=list[Told])
    oldest: int = 100
    """Changes up to this version are not told any more."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    history: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Every creation and removal of a Job, as (verb, name)."""

    async def create(self, plural: str, body: Object) -> Object:
        """Add an object under the name that it gives itself.

        Raises:
            Refused: 409 when the name is taken, 422 without a name.
        """
        name = body.get("metadata", {}).get("name")
        if not name:
            raise Refused(422, "Invalid", "metadata.name is required")
        if name in self.objects[plural]:
            raise Refused(409, "AlreadyExists", f'{plural} "{name}" already exists')
        made = copy.deepcopy(body)
        made["metadata"] |= {"uid": f"uid-{self.version + 1}", "creationTimestamp": now()}
        made.setdefault("status", {})
        if plural == "jobs":
            self.history.append(("create", name))
        return await self.put(plural, made, "ADDED")

    async def put(self, plural: str, changed: Object, told: str = "MODIFIED") -> Object:
        """Store an object as it is now and tell watchers."""
        self.version += 1
        changed["metadata"]["resourceVersion"] = str(self.version)
        changed["kind"] = KINDS[plural]
        self.objects[plural][changed["metadata"]["name"]] = changed
        await self._tell(plural, told, changed)
        return changed

    async def remove(self, plural: str, name: str) -> None:
        """Take an object away and tell watchers; nothing happens when it is gone."""
        gone = self.objects[plural].pop(name, None)
        if gone is None:
            return
        if plural == "jobs":
            self.history.append(("remove", name))
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        await self._tell(plural, "DELETED", gone)

    async def delete(self, plural: str, name: str, uid: str | None) -> Object:
        """What a DELETE does: an object with finalizers only leaves when they are gone.

        Raises:
            Refused: 404, or 409 when the uid is another one.
        """
        found = self.objects[plural].get(name)
        if found is None:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found')
        if uid is not None and uid != found["metadata"]["uid"]:
            raise Refused(409, "Conflict", "the uid in the precondition does not match")
        if found["metadata"].get("finalizers"):
            found["metadata"].setdefault("deletionTimestamp", now())
            await self.put(plural, found)
        else:
            await self.remove(plural, name)
        return found

    async def compact(self) -> None:
        """Forget all changes: whoever watches from an older version has to list again."""
        async with self.changed:
            self.changes.clear()
            self.oldest = self.version
            self.changed.notify_all()

    def names(self, plural: str) -> list[str]:
        """Names of what is there."""
        return sorted(self.objects[plural])

    async def until(self, wanted: Any, seconds: float = 10.0) -> None:
        """Wait until `wanted()` is true; it is asked after each change.

        Raises:
            TimeoutError: it does not become true.
        """
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(wanted)

    async def _tell(self, plural: str, told: str, changed: Object) -> None:
        # Told with its version in one step: who looks at the version has all that led to it.
        self.changes.append(Told(self.version, plural, told, copy.deepcopy(changed)))
        async with self.changed:
            self.changed.notify_all()


def chosen(item: Object, query: dict[str, str]) -> bool:
    """Whether label and field selectors (equality and existence only) choose an object."""
    labels: dict[str, str] = item["metadata"].get("labels") or {}
    for part in filter(None, query.get("labelSelector", "").split(",")):
        name, equals, value = part.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = part.partition("=")
        found: Any = item
        for step in path.split("."):
            found = cast("Object", found).get(step) if isinstance(found, dict) else None
        if found != value:
            return False
    return True


def now() -> str:
    """The time as the API writes it."""
    seconds = SystemClock().now()
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
