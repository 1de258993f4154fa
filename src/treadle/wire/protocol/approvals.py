"""Parameters and results of `approval/*`: methods of our own, in neither reference version."""

from typing import Any, Literal

from treadle.domain.items import Shape


class ApprovalListParams(Shape, kw_only=True):
    """Parameters of `approval/list`; without a thread, what is open in threads in memory."""

    thread_id: str | None = None
    include_settled: bool = False


class ApprovalView(Shape, kw_only=True):
    """A question as it was put, and how it ended; times are unix seconds."""

    thread_id: str
    turn_id: str
    item_id: str
    request_id: int
    """The id of the request, the same after a restart."""
    method: str
    params: dict[str, Any]
    """Method and parameters of the request."""
    effect: str
    """Digest of exactly what a yes lets happen."""
    deadline_at: float | None = None
    default: str = "decline"
    """What counts as the answer when the deadline passes."""
    status: Literal["pending", "settled"] = "pending"
    by: str | None = None
    """Who settled it: `client`, `deadline`, `policy` or `turn` (its turn has ended)."""
    reason: str | None = None
    answer: Any = None


class ApprovalListResult(Shape, kw_only=True):
    """Questions, settled ones first, each kind oldest first."""

    data: list[ApprovalView]


class ApprovalAnswerParams(Shape, kw_only=True):
    """Parameters of `approval/answer`; `result` is what a reply to the request would carry."""

    thread_id: str
    request_id: int
    result: Any


class ApprovalAnswerResult(Shape, kw_only=True):
    """The question as it is settled now; the same for the same answer again."""

    approval: ApprovalView
