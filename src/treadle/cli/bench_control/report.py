"""Figures, what was asked of them, and how both are shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Wanted = Literal[">=", "<="]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `wanted` and `target` say what was asked, if anything was."""

    name: str
    value: float
    unit: str
    wanted: Wanted | None = None
    target: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the value is as asked; None when nothing was asked."""
        if self.wanted is None or self.target is None:
            return None
        return self.value >= self.target if self.wanted == ">=" else self.value <= self.target

    def line(self) -> str:
        """The figure as people read it."""
        asked = f"{self.wanted} {_short(self.target)}" if self.target is not None else ""
        mark = {None: "  ", True: "ok", False: "NO"}[self.holds]
        text = f"{mark} {self.name:44} {_short(self.value):>10} {self.unit:9} {asked:9} {self.note}"
        return text.rstrip()

    def as_json(self) -> dict[str, object]:
        """The figure for programs."""
        asked = None if self.target is None else f"{self.wanted}{self.target}"
        facts = {"name": self.name, "value": self.value, "unit": self.unit, "asked": asked}
        return {**facts, "holds": self.holds, "note": self.note}


def percentile(values: Iterable[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def median(values: Iterable[float]) -> float:
    """The middle value."""
    return percentile(values, 0.5)


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
