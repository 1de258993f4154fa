"""What a client wants reviewed, in words for people and for the reviewer."""

import asyncio

from treadle.domain.reviews import (
    BaseBranch,
    Commit,
    Custom,
    ReviewTarget,
    UncommittedChanges,
)
from treadle.engine.agent.review_turn import ReviewOrder
from treadle.engine.services.errors import Refused
from treadle.engine.services.git_command import GitFailed, run_git
from treadle.kit.processes import SpawnError

GIT_SECONDS = 5.0


async def make_order(target: ReviewTarget, cwd: str, env: dict[str, str]) -> ReviewOrder:
    """The order for a target; asks git where a branch began.

    Raises:
        Refused: a branch, sha or instruction is blank.
    """
    match target:
        case UncommittedChanges():
            return ReviewOrder(
                "current changes",
                "Review the uncommitted changes of this repository: staged, unstaged, and "
                "untracked files. Begin with `git status --porcelain`, `git diff` and "
                "`git diff --staged`, and read untracked files whole.",
            )
        case BaseBranch(branch=branch):
            branch = _filled(branch, "branch")
            return ReviewOrder(f"changes against '{branch}'", await _against(branch, cwd, env))
        case Commit(sha=sha, title=title):
            sha = _filled(sha, "sha")
            named = f' ("{title}")' if title else ""
            label = f"commit {sha[:7]}: {title}" if title else f"commit {sha[:7]}"
            return ReviewOrder(
                label, f"Review what commit {sha}{named} changed. Begin with `git show {sha}`."
            )
        case Custom(instructions=instructions):
            words = _filled(instructions, "instructions")
            return ReviewOrder(words, words)


def _filled(text: str, name: str) -> str:
    stripped = text.strip()
    if not stripped:
        raise Refused(f"{name} must not be empty")
    return stripped


async def _against(branch: str, cwd: str, env: dict[str, str]) -> str:
    begun = await _merge_base(branch, cwd, env)
    if begun is not None:
        return (
            f"Review the changes of this branch against '{branch}'. They began at commit {begun}; "
            f"`git diff {begun}` shows what would be merged."
        )
    return (
        f"Review the changes of this branch against '{branch}'. Find where they began with "
        f'`git merge-base HEAD "{branch}"` (or its upstream) and look at `git diff` from there.'
    )


async def _merge_base(branch: str, cwd: str, env: dict[str, str]) -> str | None:
    """The commit where this branch left another one; None when git cannot tell."""
    try:
        async with asyncio.timeout(GIT_SECONDS):
            found = await run_git(cwd, env, "merge-base", "--", "HEAD", branch)
    except (TimeoutError, SpawnError, GitFailed):
        return None
    return found.strip() or None
