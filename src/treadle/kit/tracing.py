"""Spans: named, timed, nested stretches of work, told to whoever traces this process.

Nobody does unless a composition root said so; until then a span costs its name and a comparison. It
never changes what happens inside it and carries names and ids, no texts that anybody wrote.
Knows neither where spans go nor the library that takes them there.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Protocol

Attribute = str | int | float | bool


class Tracer(Protocol):
    """Takes spans; made by the composition root."""

    def span(
        self, name: str, attributes: dict[str, Attribute], parent: str | None
    ) -> AbstractContextManager[object]:
        """A span for as long as it is entered; an exception that leaves it marks it as failed.

        `parent` is a `traceparent` header (W3C Trace Context) that the work came with.
        """
        ...

    def traceparent(self) -> str | None:
        """The present span as a `traceparent` header; None outside of one."""
        ...


_tracer: Tracer | None = None
_NOTHING = nullcontext()
_NO_ATTRIBUTES: Mapping[str, Attribute | None] = MappingProxyType({})


def install(tracer: Tracer | None) -> None:
    """Tell spans to `tracer` from now on; None ends it."""
    global _tracer  # noqa: PLW0603 - one process, one tracer
    _tracer = tracer


def is_traced() -> bool:
    """Whether anybody is told: for those whose spans take work to name."""
    return _tracer is not None


def span(
    name: str,
    attributes: Mapping[str, Attribute | None] = _NO_ATTRIBUTES,
    parent: str | None = None,
) -> AbstractContextManager[object]:
    """A stretch of work; attributes that are None are left out."""
    if _tracer is None:
        return _NOTHING
    known = {key: value for key, value in attributes.items() if value is not None}
    return _tracer.span(name, known, parent)


def traceparent() -> str | None:
    """What a request to another process carries, so that its spans join ours."""
    return None if _tracer is None else _tracer.traceparent()
