"""The fleet's manager, for tests that drive real runners against it."""

from fleet.conftest import database_url, fleet

__all__ = ["database_url", "fleet"]
