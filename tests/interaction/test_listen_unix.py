"""Servers on unix sockets: where, for whom, and what happens to what lies there."""

import signal
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.listening import Listening
from treadle.wire.transport.unix import SocketUnusable, claim_unix_socket


@pytest.fixture
async def lab() -> AsyncIterator[Listening]:
    # Names of sockets are short; pytest's own folders are deep.
    with tempfile.TemporaryDirectory(prefix="unix-") as top:
        async with Listening(Path(top)) as lab:
            yield lab


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_default_socket_lies_in_the_home_for_this_user_alone(lab: Listening):
    server = await lab.start("unix://")
    path = lab.home / "app-server-control" / "app-server-control.sock"
    assert server.url == f"unix://{path}"
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    client = await lab.connect(server)
    assert (await client.ask("thread/loaded/list", {}))["result"]["data"] == []
    server.signal()
    assert await server.ends() == 0
    assert not path.exists(), "a server that ends takes its socket along"


async def test_a_socket_has_one_owner_until_that_is_dead(lab: Listening):
    path = lab.top / "s.sock"
    first = await lab.start(f"unix://{path}")
    code, said = await lab.refused("--listen", f"unix://{path}")
    assert code == 1
    assert f"app-server control socket is already in use at {path}" in said
    assert "result" in await (await lab.connect(first)).ask("model/list", {})
    first.signal(signal.SIGKILL)
    await first.ends()
    assert path.is_socket()
    second = await lab.start(f"unix://{path}")
    assert "result" in await (await lab.connect(second)).ask("model/list", {})


async def test_what_is_no_socket_is_left_alone(lab: Listening):
    path = lab.top / "notes"
    path.write_text("mine")
    code, said = await lab.refused("--listen", f"unix://{path}")
    assert code == 1
    assert "no socket" in said
    assert path.read_text() == "mine"


def test_a_released_path_that_somebody_else_took_stays_theirs(tmp_path: Path):
    path = tmp_path / "s.sock"
    claimed = claim_unix_socket(path)
    path.unlink()
    path.write_text("theirs")
    claimed.release()
    assert path.read_text() == "theirs"


def test_a_dangling_link_is_not_followed_or_removed(tmp_path: Path):
    path = tmp_path / "s.sock"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SocketUnusable, match="no socket"):
        claim_unix_socket(path)
    assert path.is_symlink()


def test_a_path_that_no_system_takes_is_told_with_a_remedy(tmp_path: Path):
    with pytest.raises(SocketUnusable, match="name a shorter one"):
        claim_unix_socket(tmp_path / ("x" * 120))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(SocketUnusable, match="No such file or directory"):
        claim_unix_socket(tmp_path / "absent" / "s.sock")
