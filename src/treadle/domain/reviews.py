"""What can be reviewed."""

from treadle.domain.items import Shape


class UncommittedChanges(Shape, tag="uncommittedChanges", kw_only=True):
    """The working tree: staged, unstaged and untracked files."""


class BaseBranch(Shape, tag="baseBranch", kw_only=True):
    """What the current branch has and another one has not."""

    branch: str


class Commit(Shape, tag="commit", kw_only=True):
    """One commit."""

    sha: str
    title: str | None = None


class Custom(Shape, tag="custom", kw_only=True):
    """Whatever these words say."""

    instructions: str


ReviewTarget = UncommittedChanges | BaseBranch | Commit | Custom
