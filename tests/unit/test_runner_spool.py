"""What reached the spool survives its runner."""

from pathlib import Path

import msgspec
import pytest

from treadle.runner.manager_types import NewEvent
from treadle.runner.spool import Spool, StaleEpoch, drop_leftover, find_leftovers


def event(number: int) -> NewEvent:
    payload = msgspec.Raw(msgspec.json.encode({"n": number}))
    return NewEvent(type="t", payload=payload, at="now", command_id="c")


def left(folder: Path, epoch: int = 9) -> list[tuple[int, list[int]]]:
    found = find_leftovers(folder, "run", epoch)
    return [(leftover.epoch, [seq for seq, _ in leftover.events]) for leftover in found]


async def test_what_was_not_acknowledged_is_found_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "run", 1)
    await spool.write(1, [event(1), event(2)])
    await spool.write(3, [event(3)])
    spool.acknowledge(1)
    spool.close(discard=False)
    [leftover] = find_leftovers(tmp_path, "run", 2)
    assert leftover.events == [(2, event(2)), (3, event(3))]


async def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "run", 1)
    await spool.write(1, [event(1), event(2)])
    spool.close(discard=False)
    [path] = tmp_path.glob("*.spool")
    whole = path.read_bytes()
    for cut in range(len(whole) // 2 + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert left(tmp_path) == [(1, [1])]


async def test_epochs_come_in_order_and_only_earlier_ones(tmp_path: Path) -> None:
    for epoch in (1, 2, 10):
        spool = Spool(tmp_path, "run", epoch)
        await spool.write(1, [event(1)])
        spool.close(discard=False)
    assert left(tmp_path, 10) == [(1, [1]), (2, [1])]
    drop_leftover(tmp_path, "run", 1)
    assert left(tmp_path, 11) == [(2, [1]), (10, [1])]


async def test_a_discarded_spool_leaves_nothing_to_recover(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "run", 1)
    await spool.write(1, [event(1)])
    spool.close(discard=True)
    assert left(tmp_path) == []


async def test_an_older_attempt_may_not_use_the_folder_of_a_newer_one(tmp_path: Path) -> None:
    Spool(tmp_path, "run", 3).close(discard=True)
    with pytest.raises(StaleEpoch):
        Spool(tmp_path, "run", 2)
    Spool(tmp_path, "other", 1).close(discard=True)


async def test_spooled_events_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    Spool(tmp_path / "new", "run", 1).close(discard=False)
    [path] = (tmp_path / "new").glob("*.spool")
    assert path.stat().st_mode & 0o777 == 0o600
