"""Lets a planned fault happen, and undoes it; one at a time, each a method by its name."""

import asyncio
import signal
from collections import Counter

from faults.proxy import DOWN, UP, Proxy
from faults.real_runners import RUNNER_LEASES, RunnerSpots
from faults.schedule import Planned, manager_places
from faults.world import ManagerSpot, World
from faults.writer import Writer
from support.fault_places import places_of

PLACE_SECONDS = 20.0
STORM_SECONDS = 0.6
STORM_PAUSE_SECONDS = 0.02


class Injector:
    """Does to a world what a schedule says."""

    def __init__(
        self, world: World, writers: list[Writer], runners: RunnerSpots, lease_ms: int
    ) -> None:
        self._world = world
        self._writers = writers
        self._runners = runners
        self._lease_seconds = lease_ms / 1000
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    async def apply(self, fault: Planned) -> None:
        """Let it happen; returns when it is over."""
        method = getattr(self, "_" + fault.kind.replace("-", "_"))
        happened = await method(fault)
        (self.skipped if happened is False else self.done)[fault.kind] += 1

    # Network

    async def _delay(self, fault: Planned) -> None:
        proxy = self._proxy_of_manager(fault)
        proxy.trouble.delay_seconds = (0.0, min(2.0, 2 * fault.seconds))
        await self._for_a_while(proxy, fault)

    async def _reset_request(self, fault: Planned) -> None:
        await self._reset(self._proxy_of_manager(fault), UP, fault)

    async def _reset_answer(self, fault: Planned) -> None:
        await self._reset(self._proxy_of_manager(fault), DOWN, fault)

    async def _half_open(self, fault: Planned) -> None:
        proxy = self._proxy_of_manager(fault)
        proxy.hold(UP, DOWN)
        await asyncio.sleep(2 * fault.seconds)
        proxy.reset_all()  # as when a router forgot the connections
        proxy.heal()

    async def _one_way_up(self, fault: Planned) -> None:
        await self._partition(UP, fault)

    async def _one_way_down(self, fault: Planned) -> None:
        await self._partition(DOWN, fault)

    async def _doubled(self, fault: Planned) -> None:
        proxy = self._proxy_of_manager(fault)
        proxy.trouble.double_posts = fault.number
        await self._for_a_while(proxy, fault)

    async def _partition(self, direction: str, fault: Planned) -> None:
        """Long enough that leases behind it lapse, every second time."""
        proxy = self._proxy_of_manager(fault)
        proxy.hold(direction)
        await asyncio.sleep(fault.seconds + (self._lease_seconds if fault.pick % 2 else 0))
        proxy.heal()

    async def _reset(self, proxy: Proxy, direction: str, fault: Planned) -> None:
        for number in range(4):
            proxy.trouble.cut_after[direction] = (fault.pick >> number * 3) % 900
            await asyncio.sleep(fault.seconds / 8)
        proxy.heal()

    async def _for_a_while(self, proxy: Proxy, fault: Planned) -> None:
        await asyncio.sleep(fault.seconds)
        proxy.heal()

    # Managers

    async def _manager_kill(self, fault: Planned) -> None:
        await self._end_manager(self._manager(fault), signal.SIGKILL)

    async def _manager_drain(self, fault: Planned) -> None:
        await self._end_manager(self._manager(fault), signal.SIGTERM)

    async def _manager_point(self, fault: Planned) -> bool:
        """Killed, and killed again at a place in the code soon after it is back."""
        manager = self._manager(fault)
        places = manager_places("postgres" if self._world.is_postgres else "sqlite")
        place = places[fault.number % len(places)]
        await self._end_manager(
            manager, signal.SIGKILL, points=f"{place}=kill@{fault.pick % 40 + 1}"
        )
        before = manager.starts
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                while manager.starts == before:  # until it died and was started again
                    await asyncio.sleep(0.05)
        except TimeoutError:  # nobody came by; it may not stay armed
            await self._end_manager(manager, signal.SIGKILL)
            return False
        await manager.wait_up()
        return True

    async def _end_manager(
        self, manager: ManagerSpot, number: signal.Signals, *, points: str = ""
    ) -> None:
        await manager.wait_up()
        before = manager.starts
        manager.signal(number, points=points)
        async with asyncio.timeout(60):
            while manager.starts == before:
                await asyncio.sleep(0.02)
        await manager.wait_up()

    # Writers and runners

    async def _writer_dies(self, fault: Planned) -> bool:
        return self._meet("die", fault)

    async def _writer_sleeps(self, fault: Planned) -> bool:
        return self._meet("sleep", fault)

    async def _writer_exits(self, fault: Planned) -> bool:
        return self._meet("exit", fault)

    async def _writer_accused(self, fault: Planned) -> bool:
        return self._meet("accused", fault)

    def _meet(self, fate: str, fault: Planned) -> bool:
        writers = [writer for writer in self._writers if not writer.is_over]
        for writer in writers[fault.pick % len(writers) :][:1] if writers else []:
            writer.meet(fate)
        return bool(writers)

    async def _runner_kill(self, fault: Planned) -> None:
        await self._runners.kill(fault.pick)

    async def _runner_point(self, fault: Planned) -> None:
        places = places_of("runner")
        place = places[fault.number % len(places)]
        await self._runners.kill(fault.pick, points=f"{place}=kill@{fault.pick % 12 + 1}")

    async def _runner_stop(self, fault: Planned) -> None:
        await self._runners.sleep(fault.pick, 2 * RUNNER_LEASES * self._lease_seconds)

    # Database

    async def _database_crash(self, fault: Planned) -> None:
        await self._world.database.crash(fault.seconds / 2)

    async def _sessions_cut(self, fault: Planned) -> None:
        """A storm of about fifty a second."""
        loop = asyncio.get_running_loop()
        until = loop.time() + STORM_SECONDS * fault.seconds
        while loop.time() < until:
            await self._world.database.cut_sessions()
            await asyncio.sleep(STORM_PAUSE_SECONDS)

    async def _commit_lost(self, fault: Planned) -> None:
        proxy = self._database_proxy(fault)
        proxy.trouble.lose_commits = fault.number % 4 + 1
        await self._for_a_while(proxy, fault)

    async def _database_reset(self, fault: Planned) -> None:
        await self._reset(self._database_proxy(fault), DOWN if fault.number % 2 else UP, fault)

    async def _database_slow(self, fault: Planned) -> None:
        proxy = self._database_proxy(fault)
        proxy.trouble.delay_seconds = (0.0, 0.1)
        await self._for_a_while(proxy, fault)

    # Whom it meets

    def _manager(self, fault: Planned) -> ManagerSpot:
        return self._world.managers[fault.pick % len(self._world.managers)]

    def _proxy_of_manager(self, fault: Planned) -> Proxy:
        return self._manager(fault).proxy

    def _database_proxy(self, fault: Planned) -> Proxy:
        proxies = self._world.database_proxies
        return proxies[fault.pick % len(proxies)]
