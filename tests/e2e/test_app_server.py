"""`treadle app-server` over the standard streams that a shell gives it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from support.command_line import WAIT_SECONDS, Home

GREETING = (
    '{"id":1,"method":"initialize","params":{"clientInfo":{"name":"hand","version":"0"}}}\n'
    '{"method":"initialized"}\n'
    '{"id":2,"method":"thread/start","params":{}}\n'
)


@pytest.mark.parametrize("kind", ["file", "null"])
async def test_streams_that_are_files_work_and_their_end_ends_the_server(
    home: Home, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(GREETING)
    target = tmp_path / "out.jsonl"
    opened = source if kind == "file" else Path("/dev/null")
    with opened.open("rb") as stdin, target.open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "treadle.cli.main", "app-server"],
            env=home.environment,
            stdin=stdin,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                _, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    assert (process.returncode, errors) == (0, b"")
    answered = {json.loads(line).get("id") for line in target.read_text().splitlines()}
    assert {1, 2} <= answered if kind == "file" else answered == set()
