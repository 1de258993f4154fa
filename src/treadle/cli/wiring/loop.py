"""The event loop of a process."""

import asyncio
from collections.abc import Coroutine
from typing import Any


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` to its end; its result is the exit code."""
    return asyncio.run(main)
