"""Runs git for its output: bounded in what is kept, never asking, never leaving a process behind.

Time is the caller's to bound. Knows no question that git is asked.
"""

import asyncio
from collections.abc import Mapping

from treadle.kit.processes import spawn

MAX_OUTPUT_BYTES = 16 << 20


class GitFailed(Exception):
    """Git ended with a code that the caller does not take for an answer."""


async def run_git(
    cwd: str, env: Mapping[str, str], *arguments: str, fine: tuple[int, ...] = (0,)
) -> str:
    """Git's standard output, cut at `MAX_OUTPUT_BYTES`.

    Args:
        cwd: folder it runs in.
        env: its environment; prompts, pager and optional locks are switched off on top.
        arguments: what follows `git`.
        fine: exit codes that count as an answer.

    Raises:
        GitFailed: any other exit code.
        SpawnError: git or the folder is not there.
    """
    # No prompt, no pager, no optional write to the index of somebody else.
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}
    child = await spawn(["git", *arguments], cwd=cwd, env={**env, **quiet})
    try:
        async with asyncio.TaskGroup() as streams:
            output = streams.create_task(_read(child.stdout))
            streams.create_task(_read(child.stderr))
        code = await child.wait()
    finally:
        await child.stop(0.2)
    if code not in fine:
        raise GitFailed(f"git {arguments[0]} ended with {code}")
    return output.result().decode(errors="replace")


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Everything, though no more than is kept: the rest is read and dropped."""
    kept = bytearray()
    while data := await stream.read(1 << 16):
        kept += data[: max(0, MAX_OUTPUT_BYTES - len(kept))]
    return bytes(kept)
