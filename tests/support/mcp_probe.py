"""Waiting for processes of MCP servers, which are no children of the test's own."""

import asyncio
import os

WAIT_SECONDS = 10.0


async def until_gone(pid: int) -> None:
    """Wait for the end of a process, whoever's child it is."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process, gone.set)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await gone.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)
