import subprocess
import sys
import time
import uuid

import pytest

from treadle.kit import mint


def test_ids_are_version_seven_uuids_of_now():
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(mint.new_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    # Earlier bursts may have borrowed some milliseconds from the future.
    assert before <= made.int >> 80 <= before + 10_000


def test_ids_sort_in_the_order_they_were_made():
    ids = [mint.new_id() for _ in range(20_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_ids_keep_their_order_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch):
    first = mint.new_id()
    monkeypatch.setattr(mint.time, "time_ns", lambda: 1_000_000_000)
    second, third = mint.new_id(), mint.new_id()
    assert first < second < third


def test_a_burst_within_one_millisecond_borrows_from_the_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mint, "_last_millis", 0)
    monkeypatch.setattr(mint, "_counter", 0)
    monkeypatch.setattr(mint.time, "time_ns", lambda: 4_000_000_000_000_000_000)
    ids = [mint.new_id() for _ in range(5000)]
    assert ids == sorted(ids)
    stamps = {uuid.UUID(made).int >> 80 for made in ids}
    assert stamps == {4_000_000_000_000, 4_000_000_000_001}


FORK = """
import os
from treadle.kit.mint import new_id
new_id()  # there are random bytes in stock now
if os.fork() == 0:
    print(new_id()[-12:], flush=True)
    os._exit(0)
os.wait()
print(new_id()[-12:])
"""


def test_a_forked_process_makes_ids_of_its_own():
    said = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    theirs, ours = said.stdout.split()
    assert theirs != ours
