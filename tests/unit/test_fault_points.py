"""Faults happen at the passage they were ordered for, in their own process, and nowhere else."""

import signal
import subprocess
import sys

import pytest

from treadle.kit import fault_points
from treadle.kit.fault_points import Fault, parse_faults, reach

PASSES = """
import sys
from treadle.kit.fault_points import arm, parse_faults, reach
arm(parse_faults(sys.argv[1]))
for number in range(1, 5):
    print(number, flush=True)
    reach("test.other")
    reach("test.place")
"""


def run_armed(plan: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PASSES, plan],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout.split()


def test_a_process_dies_at_the_passage_it_was_armed_for():
    assert run_armed("test.place=kill@3") == (-signal.SIGKILL, ["1", "2", "3"])
    assert run_armed("test.place=kill") == (-signal.SIGKILL, ["1"])


def test_a_place_that_is_not_in_the_plan_does_nothing():
    assert run_armed("test.elsewhere=kill") == (0, ["1", "2", "3", "4"])


def test_a_process_that_was_not_armed_passes_by():
    assert fault_points._armed is None
    reach("test.place")


def test_a_plan_reads_as_faults():
    assert parse_faults(" a.b=kill , c.d-e=stop@12,") == [
        Fault("a.b", "kill", 1),
        Fault("c.d-e", "stop", 12),
    ]
    assert parse_faults("") == []


@pytest.mark.parametrize("plan", ["a.b", "a.b=explode", "a.b=kill@0", "a.b=kill@x", "=kill"])
def test_a_plan_that_cannot_be_read_says_how_to_write_it(plan: str):
    with pytest.raises(ValueError, match="write PLACE=ACTION@PASSAGE"):
        parse_faults(plan)


def test_a_command_with_an_unreadable_plan_does_not_start():
    done = subprocess.run(
        [sys.executable, "-m", "treadle.cli.main", "manager", "--help"],
        env={"TREADLE_FAULT_POINTS": "nonsense", "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "TREADLE_FAULT_POINTS: 'nonsense' is no fault" in done.stderr
