"""Probes: alive while the event loop turns, ready while the database has what we need."""

import sqlite3
from pathlib import Path

from support.control_lab import control_lab
from treadle.control.http.watchdog import BEAT_SECONDS, REMEMBER_SECONDS, STALL_SECONDS, LoopWatch
from treadle.kit.clock import ManualClock, SystemClock


class SkippingClock(SystemClock):
    """The machine's clock, which a test can move forward as a blocked loop would find it."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped


async def test_a_probe_during_or_soon_after_a_stall_fails_and_then_recovers(tmp_path: Path) -> None:
    clock = SkippingClock()
    async with control_lab(tmp_path, clock=clock) as lab:
        assert (await lab.get("/health/live")) == {"status": "ok"}
        clock.skipped += STALL_SECONDS + BEAT_SECONDS + 0.1
        answer = await lab.http.get("/health/live")
        assert (answer.status_code, answer.json()["code"]) == (503, "stalled")
        assert "blocked" in answer.json()["detail"]


def test_a_stall_is_remembered_for_one_round_of_probes() -> None:
    clock = ManualClock()
    watch = LoopWatch(clock)
    clock.advance(BEAT_SECONDS + STALL_SECONDS + 2)
    watch.beat()
    assert watch.recent_stall() == STALL_SECONDS + 2
    for _ in range(int(REMEMBER_SECONDS / BEAT_SECONDS)):
        clock.advance(BEAT_SECONDS)
        watch.beat()
        assert watch.recent_stall() == STALL_SECONDS + 2
    clock.advance(BEAT_SECONDS)
    watch.beat()
    assert watch.recent_stall() == 0


def test_a_busy_loop_is_no_stall() -> None:
    clock = ManualClock()
    watch = LoopWatch(clock)
    for _ in range(10):
        clock.advance(BEAT_SECONDS + STALL_SECONDS - 0.1)
        assert watch.recent_stall() == 0
        watch.beat()
    assert watch.recent_stall() == 0


def test_beats_that_stop_are_a_stall() -> None:
    clock = ManualClock()
    watch = LoopWatch(clock)
    clock.advance(60)
    assert watch.recent_stall() == 60 - BEAT_SECONDS


async def test_ready_says_the_schema_and_fails_when_a_table_is_gone(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        ready = await lab.get("/health/ready")
        assert ready["status"] == "ready"
        assert ready["schemaVersion"] >= 1
        with sqlite3.connect(tmp_path / "manager.db") as database:
            database.execute("ALTER TABLE runs RENAME TO elsewhere")
        database.close()
        answer = await lab.http.get("/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert "elsewhere" not in answer.text
        assert (await lab.get("/health/live")) == {"status": "ok"}
        metrics = (await lab.http.get("/metrics")).text
        assert "treadle_database_up 0.0" in metrics


async def test_probes_need_no_token(tmp_path: Path) -> None:
    async with control_lab(tmp_path, locked=True) as lab:
        lab.http.headers.pop("authorization")
        await lab.get("/health/live")
        await lab.get("/health/ready")
