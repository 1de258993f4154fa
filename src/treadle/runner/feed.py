"""New commands of a run, as soon as they exist: a parked request, and a hint behind it.

The long poll is the fast path. Every answer of the manager to a write or heartbeat also tells the
newest command's number; when that is ahead, the commands are fetched at once, so that a poll that
died unnoticed costs at most one flush. Each command is handed on once, in order.
"""

import asyncio
from collections.abc import Callable

from treadle.kit.tasks import TaskScope
from treadle.runner.claim import Lease
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable
from treadle.runner.manager_types import Claim, Command

PARK_MS = 55_000
"""Below the minute after which proxies commonly cut a silent request."""
OPEN_STATES = frozenset({"pending", "delivered"})


class Feed:
    """Hands each new open command of a claimed run to `on_command`."""

    def __init__(
        self,
        client: ManagerClient,
        lease: Lease,
        claim: Claim,
        on_command: Callable[[Command], None],
        pause_seconds: float,
    ) -> None:
        """Start after what the claim told; pause between polls that were not parked."""
        self._client = client
        self._lease = lease
        self._run_id = claim.run_id
        self._seen = max([claim.cmd_last, *(command.cmd_seq for command in claim.commands)])
        self._on_command = on_command
        self._pause_seconds = pause_seconds

    def start(self, tasks: TaskScope) -> None:
        """Begin, as tasks of `tasks`."""
        tasks.start(self._poll(), "commands")
        tasks.start(self._follow_hints(), "command-hints")

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            found = await self._fetch(PARK_MS)
            if not found:
                await asyncio.sleep(max(0.0, self._pause_seconds - (loop.time() - began)))

    async def _follow_hints(self) -> None:
        while True:
            await self._lease.cmd_news.wait()
            self._lease.cmd_news.clear()
            if self._lease.cmd_last > self._seen:
                await self._fetch(0)

    async def _fetch(self, wait_ms: int) -> bool:
        try:
            page = await self._client.commands(self._run_id, self._seen, wait_ms)
        except (ManagerError, ManagerUnreachable):
            return False
        for command in page.items:
            if command.cmd_seq > self._seen:
                self._seen = command.cmd_seq
                if command.state in OPEN_STATES:
                    self._on_command(command)
        return bool(page.items)
