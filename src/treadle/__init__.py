"""Treadle: the durable home of agent threads.

The package's areas are importable, and promised to no one but the names listed here.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
