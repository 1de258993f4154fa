"""Budgets: what a thread may spend together with its sub-agents, and how its log counts it. Pure.

Limits and spending are lines of the thread's log, so that neither a restart nor taking turns back
resets them. What a sub-agent spends is written into the log of each thread above it that has a
limit. Spending is counted while there is a limit.
"""

from collections.abc import Mapping
from typing import Annotated, Any, cast

import msgspec

from treadle.domain.items import FrozenShape, Shape
from treadle.domain.records import Foreign, ThreadRecord

BUDGET_LINE = "treadle_budget"
"""Type of the log's lines about budgets; other programs pass over it."""


Limit = Annotated[int, msgspec.Meta(ge=0)]


class Budget(FrozenShape, frozen=True, kw_only=True):
    """Limits; None for none."""

    tokens: Limit | None = None
    """Tokens of model calls, cached input and all."""
    model_calls: Limit | None = None
    """Requests to a model, each retry counted."""
    tool_calls: Limit | None = None
    wall_clock_seconds: Limit | None = None
    """Time in which at least one turn runs, of the thread or of a sub-agent."""
    children: Limit | None = None
    """Sub-agents that are spawned, at all depths together."""

    @property
    def unlimited(self) -> bool:
        """Whether there is no limit at all."""
        return self == NO_LIMITS


NO_LIMITS = Budget()


class BudgetChange(Shape, kw_only=True):
    """What a client sets; absent members stay as they are, null takes a limit away."""

    tokens: Limit | msgspec.UnsetType | None = msgspec.UNSET
    model_calls: Limit | msgspec.UnsetType | None = msgspec.UNSET
    tool_calls: Limit | msgspec.UnsetType | None = msgspec.UNSET
    wall_clock_seconds: Limit | msgspec.UnsetType | None = msgspec.UNSET
    children: Limit | msgspec.UnsetType | None = msgspec.UNSET

    def values(self) -> dict[str, int | None]:
        """The members that were given, by their wire names."""
        return cast("dict[str, int | None]", msgspec.to_builtins(self))


class Spending(Shape, kw_only=True):
    """What was spent."""

    tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    wall_clock_ms: int = 0
    children: int = 0


class Exhausted(msgspec.Struct, frozen=True):
    """A limit that is reached."""

    dimension: str
    """The limit's wire name."""
    limit: int
    spent: int

    @property
    def text(self) -> str:
        """For people and models: which limit."""
        return f"the budget of {self.limit} {_NOUNS[self.dimension]} is used up"


_NOUNS = {
    "tokens": "tokens",
    "modelCalls": "model calls",
    "toolCalls": "tool calls",
    "wallClockSeconds": "seconds of running time",
    "children": "sub-agents",
}


class BudgetFold:
    """Limits and spending of a growing log: add records in order."""

    def __init__(self) -> None:
        self.set_limits: dict[str, int | None] = {}
        """What clients set, by wire name; the rest is the configuration's."""
        self.spent = Spending()

    def add(self, record: ThreadRecord) -> None:
        """Take the next record; those that say nothing about budgets are passed over."""
        if not isinstance(record, Foreign) or record.type != BUDGET_LINE:
            return
        line = cast("dict[str, Any]", record.payload or {})
        self.set_limits.update(line.get("limits") or {})
        if "state" in line:
            self.spent = msgspec.convert(line["state"], Spending)
        for name, amount in cast("dict[str, int]", line.get("spend") or {}).items():
            if name in _FIELDS:
                field = _FIELDS[name]
                setattr(self.spent, field, getattr(self.spent, field) + amount)

    def limits(self, configured: Budget) -> Budget:
        """The limits that hold: what clients set wins over the configuration."""
        if not self.set_limits:
            return configured
        known = {name: value for name, value in self.set_limits.items() if name in _LIMITS}
        return msgspec.convert({**msgspec.to_builtins(configured), **known}, Budget)

    def restated(self, at: float) -> Foreign:
        """One line that says all of it, for a log whose earlier lines were taken back."""
        state = msgspec.to_builtins(self.spent)
        return Foreign(at=at, type=BUDGET_LINE, payload={"limits": self.set_limits, "state": state})


_FIELDS = dict(zip(Spending.__struct_encode_fields__, Spending.__struct_fields__, strict=True))
_LIMITS = frozenset(Budget.__struct_encode_fields__)


def limits_record(limits: Mapping[str, int | None], at: float) -> Foreign:
    """The line by which limits are set."""
    return Foreign(at=at, type=BUDGET_LINE, payload={"limits": dict(limits)})


def spend_record(at: float, **amounts: int) -> Foreign:
    """The line that counts what was spent; keys are fields of `Spending`. May be negative."""
    names = {field: name for name, field in _FIELDS.items()}
    spend = {names[field]: amount for field, amount in amounts.items()}
    return Foreign(at=at, type=BUDGET_LINE, payload={"spend": spend})


def exhausted(limits: Budget, spent: Spending, *dimensions: str) -> Exhausted | None:
    """The first of these limits (fields of `Budget`) that leaves no room for one more."""
    for field in dimensions:
        limit = getattr(limits, field)
        used = spent.wall_clock_ms // 1000 if field == _CLOCK else getattr(spent, field)
        if limit is not None and used >= limit:
            return Exhausted(_NAMES[field], limit, used)
    return None


_CLOCK = "wall_clock_seconds"
_NAMES = dict(zip(Budget.__struct_fields__, Budget.__struct_encode_fields__, strict=True))
