"""A supervisor and its workers, which are small scripts here."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.command_line import wait_gone
from treadle.runner import supervisor as supervisor_module
from treadle.runner.announce import how_it_ended, read_announcement
from treadle.runner.supervisor import End, Supervisor

WAIT_SECONDS = 20


class Watched:
    """A supervisor of a script, and what it tells of ends."""

    def __init__(self, script: str, goes_on: Callable[[int], bool]) -> None:
        self.ends: list[End] = []
        self.stop = asyncio.Event()
        self.quit = asyncio.Event()
        self.news = asyncio.Event()
        self._goes_on = goes_on
        self.heard: list[bytes] = []
        argv = [sys.executable, "-c", script]
        self.supervisor = Supervisor(argv, {}, self._ended, self.heard.append)

    async def _ended(self, end: End) -> bool:
        self.ends.append(end)
        self.news.set()
        return self._goes_on(len(self.ends))

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[asyncio.Task[int]]":
        task = asyncio.create_task(self.supervisor.run(self.stop, self.quit))
        try:
            yield task
        finally:
            self.stop.set()
            self.quit.set()
            await asyncio.wait({task}, timeout=WAIT_SECONDS)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_SECONDS", 0.01)


async def test_a_worker_that_dies_is_followed_by_another_until_it_is_enough() -> None:
    script = "import os, signal; print('hello', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    watched = Watched(script, lambda count: count < 3)
    async with watched.running() as running, asyncio.timeout(WAIT_SECONDS):
        assert await running == -signal.SIGKILL
    assert [(end.returncode, end.lines) for end in watched.ends] == [(-9, (b"hello\n",))] * 3
    assert len({end.pid for end in watched.ends}) == 3
    assert watched.heard == [b"hello\n"] * 3


async def test_a_worker_that_is_done_is_the_last_one() -> None:
    watched = Watched("", lambda _: True)
    async with watched.running() as running, asyncio.timeout(WAIT_SECONDS):
        assert await running == 0
    assert [end.returncode for end in watched.ends] == [0]


async def test_a_worker_that_cannot_be_started_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched("", lambda _: True)
    watched.supervisor = Supervisor(["/nowhere/worker"], {}, watched.supervisor._ended, print)
    async with watched.running() as running, asyncio.timeout(WAIT_SECONDS):
        while len(caplog.records) < 3:
            await asyncio.sleep(0.01)
        watched.stop.set()
        assert await running == 1
    assert "/nowhere/worker" in caplog.text
    assert watched.ends == []


OBEDIENT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("up", flush=True)
while True: time.sleep(1)
"""
DEAF = OBEDIENT.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")


async def up(folder: Path) -> int:
    async with asyncio.timeout(WAIT_SECONDS):
        while not (folder / "pid").exists() or not (folder / "pid").read_text():
            await asyncio.sleep(0.01)
    return int((folder / "pid").read_text())


def noting(script: str, folder: Path) -> str:
    note = f"import os; open({str(folder / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    return script.replace('print("up", flush=True)\n', note)


async def test_a_stop_is_passed_on_and_its_worker_is_the_last_one(tmp_path: Path) -> None:
    watched = Watched(noting(OBEDIENT, tmp_path), lambda _: True)
    async with watched.running() as running, asyncio.timeout(WAIT_SECONDS):
        await up(tmp_path)
        watched.stop.set()
        assert await running == 0
    assert len(watched.ends) == 1


async def test_a_worker_that_does_not_stop_is_killed_when_it_has_to_be(tmp_path: Path) -> None:
    watched = Watched(noting(DEAF, tmp_path), lambda _: True)
    async with watched.running() as running, asyncio.timeout(WAIT_SECONDS):
        pid = await up(tmp_path)
        watched.stop.set()
        watched.quit.set()
        assert await running == -signal.SIGKILL
        await wait_gone(pid)


async def test_what_a_dead_worker_left_is_gone_before_its_end_is_told(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"""
import os, time
os.setsid()
open({str(pid)!r} + "+", "w").write(str(os.getpid()))
os.rename({str(pid)!r} + "+", {str(pid)!r})
time.sleep(600)
"""
    script = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {child!r}])
while not os.path.exists({str(pid)!r}): time.sleep(0.01)
os.kill(os.getpid(), 9)
"""
    left: list[bool] = []

    def look(count: int) -> bool:
        del count
        status = Path(f"/proc/{pid.read_text()}/status")
        left.append(status.exists() and "\nState:\tZ" not in status.read_text())
        return False

    watched = Watched(script, look)
    async with watched.running() as running, asyncio.timeout(WAIT_SECONDS):
        assert await running == -signal.SIGKILL
    assert left == [False]


def test_an_end_is_put_into_words() -> None:
    assert how_it_ended(3) == "exited with 3"
    assert how_it_ended(-9) == "killed by SIGKILL"
    assert how_it_ended(-255) == "killed by signal 255"


@pytest.mark.parametrize("line", [b"", b"treadle runner takes runs", b"{}", b'{"registered":1}\n'])
def test_other_words_are_no_announcement(line: bytes) -> None:
    assert read_announcement(line) is None
