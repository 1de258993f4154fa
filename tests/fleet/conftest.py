"""A real manager over HTTP for each test of the fleet."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.harness import SECRETS, Fleet, make_home
from treadle.control.http.server import ManagerOptions, serve
from treadle.runner.manager_client import ManagerClient


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    homes = {
        name: make_home(tmp_path / f"home-{name}", secret, catalog=name == "deepseek")
        for name, secret in SECRETS.items()
    }
    manager = await serve(ManagerOptions(data_folder=tmp_path / "manager"))
    try:
        async with ManagerClient(manager.address) as client:
            yield Fleet(client, manager.address, workspace, tmp_path, homes)
    finally:
        await manager.stop()
