"""A manager in a process of its own, for tests that kill it: `manager_process.py FOLDER [URL]`.

Prints its address on the first line, then serves until SIGTERM.
"""

import asyncio
import signal
import sys
from pathlib import Path


async def main(folder: Path, database_url: str | None = None) -> None:
    from treadle.control.http.server import ManagerOptions, serve

    manager = await serve(ManagerOptions(data_folder=folder, database_url=database_url))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(manager.address, flush=True)
    await stop.wait()
    await manager.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
