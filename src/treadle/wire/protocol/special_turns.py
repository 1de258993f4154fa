"""Parameters and results of `review/start`, `thread/compact/start` and `thread/shellCommand`."""

from typing import Literal

from treadle.domain.items import Shape
from treadle.domain.reviews import ReviewTarget
from treadle.domain.turns import Turn


class ReviewStartParams(Shape, kw_only=True):
    """Parameters of `review/start`; a detached review runs on a fork of the thread."""

    thread_id: str
    target: ReviewTarget
    delivery: Literal["inline", "detached"] | None = None


class ReviewStartResult(Shape, kw_only=True):
    """The review's turn, and the thread it runs on."""

    turn: Turn
    review_thread_id: str


class ShellCommandParams(Shape, kw_only=True):
    """Parameters of `thread/shellCommand`; without a limit the command may run for an hour."""

    thread_id: str
    command: str
    timeout_ms: int | None = None
