"""What the tests of the command line share: a home folder and a provider that it asks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.command_line import Home
from support.fake_provider import FakeProvider


@pytest.fixture
def bare_home(tmp_path: Path) -> Home:
    """A home folder without any configuration."""
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder)


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
def home(bare_home: Home, provider: FakeProvider) -> Home:
    """A home folder whose model provider is `provider`."""
    bare_home.configure(provider.url)
    return bare_home


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder that passes for a repository."""
    folder = tmp_path / "workspace"
    (folder / ".git").mkdir(parents=True)
    return folder
