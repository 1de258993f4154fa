"""Fixtures that more than one folder of tests uses."""

from collections.abc import Iterator

import pytest

from support.postgres import Server, run_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server of this test process, started when a test first asks for it."""
    yield from run_server()


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Server) -> Iterator[str]:
    """An empty database for the tests of one module."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)
