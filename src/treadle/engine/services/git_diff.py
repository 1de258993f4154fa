"""What a working folder has that its remotes have not: commits, edits and files nobody added yet.

Runs git, bounded in time and output. Knows nothing of threads.
"""

import asyncio
from collections.abc import Mapping

from treadle.engine.services.errors import NoGitDiff
from treadle.engine.services.git_command import MAX_OUTPUT_BYTES, GitFailed, run_git
from treadle.kit.processes import SpawnError

GIT_SECONDS = 30.0
"""How long all of git's work together may take."""
MAX_NEW_FILES = 500
"""Files git does not know yet; of more only the first ones are shown."""


async def diff_to_remote(cwd: str, env: Mapping[str, str]) -> tuple[str, str]:
    """The newest commit of `cwd` that a remote has, and all that came since as one patch.

    Raises:
        NoGitDiff: nothing can be compared, or it took too long.
    """
    try:
        async with asyncio.timeout(GIT_SECONDS):
            return await _Git(cwd, env).diff_to_remote()
    except (TimeoutError, SpawnError, GitFailed) as error:
        raise NoGitDiff(cwd) from error


class _Git:
    def __init__(self, cwd: str, env: Mapping[str, str]) -> None:
        self._cwd = cwd
        self._env = env

    async def diff_to_remote(self) -> tuple[str, str]:
        commit = await self._newest_shared()
        patch = await self._run("diff", "--no-textconv", "--no-ext-diff", commit)
        new = await self._run("ls-files", "--others", "--exclude-standard", "-z")
        for name in new.split("\0")[:MAX_NEW_FILES]:
            if name and len(patch) < MAX_OUTPUT_BYTES:
                # Exit code 1 says that they differ, which a new file does.
                patch += await self._run(
                    "diff", "--no-ext-diff", "--no-index", "--", "/dev/null", name, fine=(0, 1)
                )
        return commit, patch

    async def _newest_shared(self) -> str:
        if not (await self._run("branch", "--remotes", "--format=%(refname)")).strip():
            raise NoGitDiff(self._cwd)
        # Boundaries are the remotes' commits that ours stand on; none: ours is theirs already.
        lines = await self._run("rev-list", "--boundary", "HEAD", "--not", "--remotes")
        shared = [line[1:] for line in lines.split() if line.startswith("-")]
        if shared:
            return shared[0]
        if lines.split():  # a history of its own
            raise NoGitDiff(self._cwd)
        return (await self._run("rev-parse", "HEAD")).strip()

    async def _run(self, *arguments: str, fine: tuple[int, ...] = (0,)) -> str:
        return await run_git(self._cwd, self._env, *arguments, fine=fine)
