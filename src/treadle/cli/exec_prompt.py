"""What `treadle exec` is given to work on: prompt, images, schema. Reads files and standard input.

Standard input is read only when asked for (`-`, or no prompt at all), without blocking the event
loop, so that deadlines hold also while a pipe stays open.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO, cast

from treadle.cli.exec_options import Misused

PROMPT_MAX_BYTES = 8 << 20
"""Far above what a turn takes; only bounds what is held here."""

SILENCE_SECONDS = 10.0
"""Without any prompt on the command line: how long standard input may stay silent at first."""


def read_schema(file: Path | None) -> dict[str, Any] | None:
    """The schema in `file`; None without one. Raises Misused when it cannot be used."""
    if file is None:
        return None
    try:
        schema: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misused(f"cannot read the output schema {file}: {error.strerror}") from error
    except ValueError as error:
        raise Misused(f"the output schema {file} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise Misused(f"the output schema {file} is no JSON object")
    return cast("dict[str, Any]", schema)


def images(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The images as inputs of a turn; raises Misused for one that is not there."""
    names = [name for given in options.image for name in given.split(",") if name]
    for name in names:
        if not Path(name).is_file():
            raise Misused(f"there is no image {name}")
    return [{"type": "localImage", "path": str(Path(name).absolute())} for name in names]


def check_source(prompt: str | None) -> None:
    """Raise Misused when the prompt has no source, or would have to be typed unasked."""
    if prompt not in (None, "-"):
        return
    # Python has no standard input when it was started with a closed one.
    if cast("TextIO | None", sys.stdin) is None:
        raise Misused("standard input is closed; give a PROMPT")
    if prompt is None and sys.stdin.isatty():
        raise Misused("what to do? give a PROMPT, or - to type it on standard input")


async def read_prompt(prompt: str | None) -> str:
    """The prompt as given, or from standard input until its end.

    Raises:
        Misused: nothing came, or it is no text.
    """
    if prompt not in (None, "-"):
        return prompt
    data = await _read_stdin(SILENCE_SECONDS if prompt is None else None)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Misused(f"standard input is no UTF-8 text (byte {error.start})") from error
    if not text.strip():
        raise Misused("no prompt: neither as an argument nor on standard input")
    return text


async def _read_stdin(first_seconds: float | None) -> bytes:
    """All of standard input; nothing when its first byte does not come in time."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    chunks: list[bytes] = []
    over = asyncio.Event()
    begun = asyncio.Event()

    def take() -> None:
        chunk = os.read(descriptor, 1 << 16)
        chunks.append(chunk)
        begun.set()
        if not chunk or sum(map(len, chunks)) > PROMPT_MAX_BYTES:
            over.set()

    try:
        loop.add_reader(descriptor, take)
    except PermissionError:
        # A regular file or /dev/null: always readable, and nothing that could be waited for.
        while not over.is_set():
            take()
        return b"".join(chunks)
    try:
        async with asyncio.timeout(first_seconds):
            await begun.wait()
        await over.wait()
    except TimeoutError:
        return b""
    finally:
        loop.remove_reader(descriptor)
    return b"".join(chunks)
