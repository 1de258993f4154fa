"""A real manager over HTTP for each test of the fleet."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.harness import SECRETS, Fleet, make_home
from treadle.control.http.server import ManagerOptions, serve
from treadle.runner.manager_client import ManagerClient


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the runner's contract on each kind of database; the other tests on a file."""
    named = str(metafunc.module and metafunc.module.__name__)
    if named.endswith("test_seed_004") and "fleet" in metafunc.fixturenames:
        metafunc.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str | None:
    """The manager's database; None is a file in its folder."""
    wanted: str = getattr(request, "param", "sqlite")
    url: str | None = request.getfixturevalue("postgres_url") if wanted == "postgres" else None
    return url


@pytest.fixture
async def fleet(tmp_path: Path, database_url: str | None) -> AsyncIterator[Fleet]:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    homes = {
        name: make_home(tmp_path / f"home-{name}", secret, catalog=name == "deepseek")
        for name, secret in SECRETS.items()
    }
    manager = await serve(
        ManagerOptions(data_folder=tmp_path / "manager", database_url=database_url)
    )
    try:
        async with ManagerClient(manager.address) as client:
            yield Fleet(client, manager.address, workspace, tmp_path, homes)
    finally:
        await manager.stop()
