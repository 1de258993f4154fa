"""A spool that a crash of the machine left damaged: what is whole in it is told, once."""

from pathlib import Path

import pytest

from faults.checker import check
from faults.collect import read_final
from faults.history import History
from fleet.harness import Fleet, Work
from fleet.test_takeover import claim_as_dead_runner, spool_as, told
from treadle.runner.setup import SPOOL_FOLDER


def spool_file(work: Work) -> Path:
    (path,) = (Path(work.fleet.codex_home) / SPOOL_FOLDER).glob(f"{work.run_id}.1.spool")
    return path


def tear(content: bytes) -> bytes:
    return content[: content.rindex(b"output 5") + 3]


def zero_end(content: bytes) -> bytes:
    torn = tear(content)
    return torn + bytes(len(content) - len(torn))


def spoil_in_the_middle(content: bytes) -> bytes:
    return content.replace(b"output 3", b"out\xff\x00\x01 3")


@pytest.mark.parametrize(("damage", "kept"), [(tear, 4), (zero_end, 4), (spoil_in_the_middle, 2)])
async def test_what_is_whole_is_told_once(fleet: Fleet, damage: object, kept: int) -> None:
    assert callable(damage)
    work = await fleet.create("damaged")
    claim = await claim_as_dead_runner(work)
    events = [told({"text": f"output {number}"}, work.command_id) for number in range(1, 6)]
    await spool_as(work, claim.epoch, events)
    path = spool_file(work)
    path.write_bytes(damage(path.read_bytes()))
    await fleet.client.append(work.run_id, claim.token, claim.epoch, 1, events[:1])
    result = await work.go(claim_retry_timeout_ms=5_000, claim_retry_interval_ms=50)
    assert result.terminal_status == "completed"
    outputs = [e.payload["text"] for e in await work.events() if e.type == "command_output"]
    assert outputs == [f"output {number}" for number in range(1, kept + 1)]
    final = await read_final(fleet.url, work.run_id)
    assert [str(each) for each in check(History(final={work.run_id: final}))] == []


async def test_a_folder_that_is_gone_is_no_reason_to_fail(fleet: Fleet) -> None:
    work = await fleet.create("gone")
    claim = await claim_as_dead_runner(work)
    await spool_as(work, claim.epoch, [told({"text": "output 1"}, work.command_id)])
    folder = Path(work.fleet.codex_home) / SPOOL_FOLDER
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    result = await work.go(claim_retry_timeout_ms=5_000, claim_retry_interval_ms=50)
    assert result.terminal_status == "completed"
