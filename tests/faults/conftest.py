"""The fleet's manager, for tests that drive real runners against it."""

from fleet.conftest import fleet

__all__ = ["fleet"]
