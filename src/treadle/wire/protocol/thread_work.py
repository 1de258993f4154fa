"""Parameters and results of a thread's goal and of its message queue."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from treadle.domain.goals import Goal, GoalStatus
from treadle.domain.inbox import Submission
from treadle.domain.items import Shape, UserInput
from treadle.domain.turns import Turn
from treadle.wire.protocol.numbers import U32


class GoalSetParams(Shape, kw_only=True):
    """Parameters of `thread/goal/set`; a null budget lifts it, an absent one stays."""

    thread_id: str
    objective: str | None = None
    status: GoalStatus | None = None
    token_budget: int | UnsetType | None = UNSET
    origin: Literal["user", "automatic"] | None = None


class GoalSetResult(Shape, kw_only=True):
    """The goal as it is now."""

    goal: Goal


class GoalGetResult(Shape, kw_only=True):
    """The goal, if there is one."""

    goal: Goal | None = None


class GoalClearResult(Shape, kw_only=True):
    """Whether there was a goal."""

    cleared: bool


class QueueAddParams(Shape, kw_only=True):
    """Parameters of `thread/queue/add`."""

    thread_id: str
    client_user_message_id: str
    input: list[UserInput]
    responsesapi_client_metadata: dict[str, Any] | None = None


class QueueSubmissionResult(Shape, kw_only=True):
    """The message as it waits."""

    queued_submission: Submission


class QueueListParams(Shape, kw_only=True):
    """Parameters of `thread/queue/list`."""

    thread_id: str
    cursor: str | None = None
    limit: U32 | None = None


class QueueListResult(Shape, kw_only=True):
    """A page of what waits, in order."""

    data: list[Submission]
    next_cursor: str | None = None


class QueueUpdateParams(Shape, kw_only=True):
    """Parameters of `thread/queue/update`."""

    thread_id: str
    queued_submission_id: str
    input: list[UserInput]
    responsesapi_client_metadata: dict[str, Any] | None = None


class QueueDeleteParams(Shape, kw_only=True):
    """Parameters of `thread/queue/delete`."""

    thread_id: str
    queued_submission_id: str


class QueueDeleteResult(Shape, kw_only=True):
    """Whether the message was there."""

    deleted: bool


class QueueReorderParams(Shape, kw_only=True):
    """Parameters of `thread/queue/reorder`."""

    thread_id: str
    queued_submission_ids: list[str]


class QueueStartParams(Shape, kw_only=True):
    """Parameters of `thread/queue/start`."""

    thread_id: str
    queued_submission_id: str | None = None


class QueueStartResult(Shape, kw_only=True):
    """The turn that was started."""

    turn: Turn
