"""A backend whose turns hang until they are interrupted, and which notes when that reached it."""

import os
import time
from pathlib import Path

from treadle.testing.fake_backend import FakeServer, serve
from treadle.testing.fake_server import Interrupted

STAMPS = "TREADLE_BENCH_STAMPS"
"""Names the file that gets a line per interrupt: seconds of the machine's monotonic clock."""


def hang(server: FakeServer, prompt: str) -> None:
    """A turn without an end of its own."""
    del prompt
    server.answer_start()
    server.started()
    try:
        while True:
            server.pause(60.0)
    except Interrupted:
        stamp = f"{time.perf_counter()!r}\n"
        path = Path(os.environ[STAMPS])  # noqa: TID251 - a program of its own
        with path.open("a", encoding="ascii") as file:
            file.write(stamp)
        raise


if __name__ == "__main__":
    serve(hang)
