"""A manager killed at every numbered place of its code, on each kind of database.

Only with `TREADLE_TEST_FAULTS=all`: the short programme has such kills among its faults.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from faults.programme import run_programme
from faults.schedule import Planned, Programme, manager_places


class AtPlaces(Programme):
    """Nothing but kills at places, one after the other."""

    def plan(self) -> list[Planned]:
        count = len(manager_places(self.database))
        return [
            Planned((number + 1) / (count + 2), "manager-point", 7 + number, 0.3, number)
            for number in range(count)
        ]


@pytest.mark.skipif(os.environ.get("TREADLE_TEST_FAULTS") != "all", reason="takes long")
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
