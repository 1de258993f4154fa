"""A manager killed at every numbered place of its code, on each kind of database.

In short two places are met; `TREADLE_TEST_FAULTS=all` meets all of them.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from faults.programme import run_programme
from faults.schedule import Planned, Programme, manager_places

SOME = ["control.db.committed", "control.http.runner-answering"]


class AtPlaces(Programme):
    """Nothing but kills at places, one after the other."""

    def plan(self) -> list[Planned]:
        everything = os.environ.get("TREADLE_TEST_FAULTS") == "all"
        places = manager_places(self.database)
        numbers = [n for n, place in enumerate(places) if everything or place in SOME]
        return [
            Planned((at + 1) / (len(numbers) + 2), "manager-point", 7 + at, 0.3, number)
            for at, number in enumerate(numbers)
        ]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_a_manager_killed_at_each_place_keeps_every_invariant(
    tmp_path: Path, database: str
) -> None:
    base = AtPlaces(seed=5, events=1500, faults=0, database=database, runs=3)
    programme = replace(base, faults=len(base.plan()))
    report = await run_programme(programme, tmp_path)
    assert report.violations == [], str(report)
    assert report.odd == [], str(report)
    assert report.faults["manager-point"] == len(programme.plan())
