"""What all tests share: how property tests run, and a PostgreSQL server for those that want one.

Property tests have no deadline per example, and not too many examples: the machines that run the
suite are shared; how long one example takes says nothing there.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.postgres import Server, run_server

settings.register_profile("treadle", deadline=None, max_examples=60)
settings.load_profile("treadle")


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
