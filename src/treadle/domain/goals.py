"""A thread's goal, and how it lies in the thread's log.

A fold like those of `history`: the last line about the goal counts. Knows neither who pursues a
goal nor when.
"""

from collections.abc import Iterable
from typing import Any, Literal, cast

import msgspec

from treadle.domain.items import Shape
from treadle.domain.records import Foreign, ThreadRecord

GOAL_LINE = "treadle_goal"
"""Type of the log's lines about goals; other programs pass over it."""

MAX_OBJECTIVE_CHARS = 4000

GoalStatus = Literal["active", "paused", "blocked", "usageLimited", "budgetLimited", "complete"]


class Goal(Shape, kw_only=True):
    """What a thread is to reach; times are unix seconds, budgets and use are tokens."""

    thread_id: str
    objective: str
    status: GoalStatus = "active"
    token_budget: int | None = None
    tokens_used: int = 0
    time_used_seconds: int = 0
    created_at: int = 0
    updated_at: int = 0


def goal_record(goal: Goal | None, at: float) -> Foreign:
    """The line that says what the goal is from here on; None for none."""
    return Foreign(at=at, type=GOAL_LINE, payload={"goal": msgspec.to_builtins(goal)})


def latest_goal(records: Iterable[ThreadRecord]) -> Goal | None:
    """The goal of a log; None when it has none."""
    latest: Goal | None = None
    for record in records:
        if type(record) is Foreign and record.type == GOAL_LINE:
            payload = cast("dict[str, Any]", record.payload or {})
            latest = msgspec.convert(payload.get("goal"), Goal | None)
    return latest
