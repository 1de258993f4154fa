"""A child that speaks the protocol, badly or well."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from treadle.kit.processes import SpawnError
from treadle.runner.backend import (
    Backend,
    BackendGone,
    Exited,
    Garbage,
    Notification,
    Reply,
    ServerRequest,
    start_backend,
)


@asynccontextmanager
async def child(code: str) -> AsyncGenerator[Backend]:
    backend = await start_backend([sys.executable, "-c", code], cwd=None, env={})
    try:
        async with asyncio.timeout(10):
            yield backend
    finally:
        await backend.stop()


def says(*lines: str, then: str = "") -> str:
    text = "".join(line + "\n" for line in lines)
    return f"import sys, time; sys.stdout.write({text!r}); sys.stdout.flush(); {then}"


async def test_each_kind_of_message_is_told_apart_and_kept_in_order() -> None:
    lines = (
        '{"method":"a/b","params":{"x":1},"emittedAtMs":5}',
        "",
        '{"method":"ask","id":"q","params":{}}',
        '{"id":7,"result":{"ok":true}}',
        '{"id":8,"error":{"code":-1,"message":"no"}}',
    )
    async with child(says(*lines)) as backend:
        assert await backend.receive() == Notification("a/b", {"x": 1})
        assert await backend.receive() == ServerRequest("q", "ask", {})
        assert await backend.receive() == Reply(7, {"ok": True}, None)
        assert await backend.receive() == Reply(8, None, {"code": -1, "message": "no"})
        assert isinstance(await backend.receive(), Exited)


@pytest.mark.parametrize("line", ["{oops", "[1]", "5", '"x"', '{"id":1}', "Loading model..."])
async def test_a_line_that_is_no_message_is_garbage(line: str) -> None:
    async with child(says(line, then="time.sleep(30)")) as backend:
        message = await backend.receive()
        assert isinstance(message, Garbage)
        assert line in message.reason


async def test_invalid_utf_8_is_garbage() -> None:
    code = 'import sys; sys.stdout.buffer.write(b\'{"method":"\\xff\\n\')'
    async with child(code) as backend:
        assert isinstance(await backend.receive(), Garbage)


async def test_a_message_in_many_pieces_is_one_message() -> None:
    code = (
        "import sys, time\n"
        "for piece in ('{\"method\":', '\"slow\"', '}\\n'):\n"
        "    sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.02)"
    )
    async with child(code) as backend:
        assert await backend.receive() == Notification("slow", {})


async def test_the_end_carries_status_and_the_end_of_standard_error() -> None:
    code = "import sys; sys.stderr.write('x' * 100000 + 'last words'); sys.exit(3)"
    async with child(code) as backend:
        message = await backend.receive()
        assert isinstance(message, Exited)
        assert message.returncode == 3
        assert message.stderr.endswith("last words")
        assert len(message.stderr) <= 4096
        with pytest.raises(BackendGone):
            backend.send("late", {})


async def test_a_closed_output_is_an_end_although_the_process_lives() -> None:
    code = "import os, time; os.close(1); time.sleep(30)"
    async with child(code) as backend:
        message = await backend.receive()
        assert isinstance(message, Exited)
        assert message.returncode is None


async def test_a_reader_that_falls_behind_loses_nothing() -> None:
    code = 'for n in range(6000): print(\'{"method":"n","params":{"n":%d}}\' % n)'
    async with child(code) as backend:
        numbers = [(await backend.receive()).params["n"] for _ in range(6000)]  # type: ignore[union-attr]
        assert numbers == list(range(6000))


async def test_stopping_takes_the_whole_tree_along() -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)\n"
        'print(\'{"method":"pid","params":{"pid":%d}}\' % p.pid, flush=True)\n'
        "time.sleep(60)"
    )
    async with child(code) as backend:
        message = await backend.receive()
        assert isinstance(message, Notification)
    assert not is_alive(message.params["pid"])


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b") ", 1)[1][:1]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != b"Z"


async def test_a_missing_program_cannot_be_started() -> None:
    with pytest.raises(SpawnError):
        await start_backend(["/no/such/program"], cwd=None, env={})
