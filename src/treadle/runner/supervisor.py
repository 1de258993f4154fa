"""Keeps a worker process at work: sees its end, ends what it left behind, says so, starts another.

A worker that is killed says nothing; the parent sees it at once, however it ended, so that the
manager need not wait for leases to run out. Knows runs and the manager not at all: what is said of
a worker's end, and to whom, is the caller's.
"""

import asyncio
import contextlib
import logging
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from treadle.kit import reaper
from treadle.kit.processes import ChildProcess, SpawnError, spawn
from treadle.kit.tasks import TaskScope

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
SOUND_SECONDS = 60.0
"""A worker that lived for so long was well: the next one need not wait."""
STOP_SECONDS = 60.0
"""A worker that is told to stop gives its turns half a minute; then it has to be gone."""
LAST_WORDS_SECONDS = 1.0
ANNOUNCEMENTS_KEPT = 8


@dataclass(frozen=True, slots=True)
class End:
    """How a worker ended, and the lines it wrote last, oldest first."""

    pid: int
    returncode: int
    lines: tuple[bytes, ...]


class Supervisor:
    """One worker after the other, until one ends as it should or a stop is asked for."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        ended: Callable[[End], Awaitable[bool]],
        heard: Callable[[bytes], None],
    ) -> None:
        """Start nothing yet.

        Args:
            argv: the worker's command line; SIGTERM has it stop in good order.
            env: its environment. It does not outlive this process.
            ended: told of each end, once nothing of the worker's tree is left; whether there is to
                be another worker.
            heard: told of each line that a worker writes, as it comes.
        """
        self._argv = argv
        self._env = env
        self._ended = ended
        self._heard = heard

    async def run(self, stop: asyncio.Event, quit_: asyncio.Event) -> int:
        """Keep workers going; the exit status of the last one, negative for a signal.

        `stop` has it end in good order, `quit_` (after that) at once. A worker that ends with 0 was
        not needed any more; any other end is followed by a new worker, after a pause that doubles
        while workers do not live long.
        """
        pause = FIRST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            end = await self._live(stop, quit_)
            goes_on = await self._ended(end) if end is not None else True
            returncode = end.returncode if end is not None else 1
            if stop.is_set() or returncode == 0 or not goes_on:
                return returncode
            if loop.time() - began >= SOUND_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
                return returncode
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _live(self, stop: asyncio.Event, quit_: asyncio.Event) -> End | None:
        """One worker from start to end; None when it could not be started."""
        try:
            worker = await spawn(self._argv, env=reaper.tied(self._env), share_stderr=True)
        except SpawnError as error:
            logger.warning("no worker could be started: %s", error)
            return None
        lines: deque[bytes] = deque(maxlen=ANNOUNCEMENTS_KEPT)
        scope = TaskScope("supervisor")
        try:
            listening = scope.start(self._listen(worker, lines), "worker's words")
            ending = scope.start(worker.exited(), "worker")
            stopping = scope.start(stop.wait(), "stop")
            await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                worker.signal_group(signal.SIGTERM)
                quitting = scope.start(quit_.wait(), "quit")
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait({ending, quitting}, timeout=STOP_SECONDS, return_when=first)
            await worker.stop(0)
            await asyncio.wait({listening}, timeout=LAST_WORDS_SECONDS)
        finally:
            await worker.stop(0)
            await scope.close()
        returncode = worker.returncode
        return End(worker.pid, 1 if returncode is None else returncode, tuple(lines))

    async def _listen(self, worker: ChildProcess, lines: "deque[bytes]") -> None:
        while True:
            try:
                line = await worker.stdout.readline()
            except ValueError:  # longer than any that we know of
                continue
            if not line:
                return
            lines.append(line)
            self._heard(line)
