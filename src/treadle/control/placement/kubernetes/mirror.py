"""What the cluster says of one kind of object, kept up to date by list and watch.

The end or the loss of a watch says nothing about the objects: it is watched on from the last
version, and listed again where that is too old. What is known to be gone (told so, or missing from
a later list) is remembered for a while. Knows no runs.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from treadle.control.placement.kubernetes.api_types import Job, Pod
from treadle.control.placement.kubernetes.client import (
    ApiRefused,
    ApiUnreachable,
    Expired,
    Kind,
    KubernetesClient,
)
from treadle.kit.clock import Clock

logger = logging.getLogger(__name__)

T = TypeVar("T", Job, Pod)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
FRESH_SECONDS = 120.0
REMEMBERED = 2000


class Mirror(Generic[T]):
    """The objects of one kind that a label selector chooses, by name."""

    def __init__(
        self,
        client: KubernetesClient,
        kind: Kind[T],
        selector: str,
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        """Know nothing before `run`; `changed` is called after each change."""
        self._client = client
        self._kind = kind
        self._selector = selector
        self._changed = changed
        self._clock = clock
        self._version: str | None = None
        self._items: dict[str, T] = {}
        self._departed: OrderedDict[str, T] = OrderedDict()
        self._heard_at: float | None = None

    @property
    def items(self) -> Mapping[str, T]:
        """What is there, as far as was told."""
        return self._items

    @property
    def departed(self) -> Mapping[str, T]:
        """What is gone, as it was told of last; the oldest are forgotten."""
        return self._departed

    @property
    def is_fresh(self) -> bool:
        """Whether it was heard of the cluster lately, so that what did not happen can be told."""
        if self._heard_at is None:
            return False
        return self._clock.monotonic() - self._heard_at < FRESH_SECONDS

    @property
    def is_known(self) -> bool:
        """Whether all objects were told of once."""
        return self._heard_at is not None

    def learn(self, item: T) -> None:
        """Take an object that the cluster answered with, ahead of the watch."""
        if item.metadata.name not in self._items:
            self._items[item.metadata.name] = item

    async def run(self) -> None:
        """Follow the cluster until cancelled; whatever fails is tried again, with pauses."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if self._version is None:
                    await self._list()
                    pause = FIRST_PAUSE_SECONDS
                version = self._version
                await self._watch()
                if self._version != version:
                    pause = FIRST_PAUSE_SECONDS
                await asyncio.sleep(FIRST_PAUSE_SECONDS * random.uniform(0.5, 1.0))
                continue
            except Expired:
                self._version = None
            except (ApiRefused, ApiUnreachable) as error:
                logger.warning("%s of the cluster: %s; trying again", self._kind.plural, error)
            except Exception:  # without a picture of the cluster nothing is placed: never give up
                logger.exception("following %s failed; listing again", self._kind.plural)
                self._version = None
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _list(self) -> None:
        listing = await self._client.list_all(self._kind, labelSelector=self._selector)
        now = {item.metadata.name: item for item in listing.items}
        for name, item in self._items.items():
            if name not in now or now[name].metadata.uid != item.metadata.uid:
                self._depart(item)
        self._items = now
        self._version = listing.version
        self._heard()

    async def _watch(self) -> None:
        assert self._version is not None
        changes = self._client.watch(self._kind, self._version, labelSelector=self._selector)
        async for change in changes:
            self._version = change.version
            if change.item is not None:
                self._take(change.item, change.is_gone)
            self._heard()
        self._heard()

    def _take(self, item: T, is_gone: bool) -> None:
        if is_gone:
            self._items.pop(item.metadata.name, None)
            self._depart(item)
        else:
            self._items[item.metadata.name] = item

    def _depart(self, item: T) -> None:
        self._departed[item.metadata.name] = item
        self._departed.move_to_end(item.metadata.name)
        while len(self._departed) > REMEMBERED:
            self._departed.popitem(last=False)

    def _heard(self) -> None:
        self._heard_at = self._clock.monotonic()
        self._changed()
