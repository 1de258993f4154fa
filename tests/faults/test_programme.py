"""The fault programme in short: some load, some faults, on each kind of database.

`make test-faults` runs it at length. A failure names the seed that runs it again.
"""

from pathlib import Path

import pytest

from faults.programme import run_programme
from faults.schedule import Programme

SHORT = {
    "sqlite": Programme(seed=10, events=2500, faults=5, database="sqlite", runs=4),
    "postgres": Programme(seed=1579, events=4000, faults=8, database="postgres", runs=4),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", SHORT)
async def test_a_short_programme_holds_every_invariant(tmp_path: Path, database: str):
    report = await run_programme(SHORT[database], tmp_path)
    assert report.violations == [], str(report)
    assert report.odd == [], str(report)
    assert sum(report.faults.values()) + sum(report.skipped.values()) > 2, str(report)
    assert report.forged > 0, str(report)


def test_a_seed_plans_the_same_faults_again():
    programme = Programme(seed=11, events=1000, faults=80, database="postgres", sessions=1)
    again = Programme(seed=11, events=1000, faults=80, database="postgres", sessions=1)
    other = Programme(seed=12, events=1000, faults=80, database="postgres", sessions=1)
    assert programme.plan() == again.plan() != other.plan()
    assert [fault.at for fault in programme.plan()] == sorted(f.at for f in programme.plan())


def test_a_long_programme_has_every_kind_of_fault():
    programme = Programme(seed=1, events=1000, faults=200, database="postgres", sessions=1)
    kinds = {fault.kind for fault in programme.plan()}
    assert len(kinds) >= 20
