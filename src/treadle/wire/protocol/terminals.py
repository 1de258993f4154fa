"""Parameters and results of `thread/backgroundTerminals/*`."""

from treadle.domain.items import Shape
from treadle.wire.protocol.numbers import U32


class TerminalsListParams(Shape, kw_only=True):
    """Parameters of `thread/backgroundTerminals/list`."""

    thread_id: str
    cursor: str | None = None
    limit: U32 | None = None


class BackgroundTerminal(Shape, kw_only=True):
    """A command that outlived the call that started it; its use of the machine is not told."""

    item_id: str
    process_id: str
    command: str
    cwd: str
    os_pid: int | None = None
    cpu_percent: float | None = None
    rss_kb: int | None = None


class TerminalsListResult(Shape, kw_only=True):
    """Those of a thread, oldest first."""

    data: list[BackgroundTerminal]
    next_cursor: str | None = None


class TerminalTerminateParams(Shape, kw_only=True):
    """Parameters of `thread/backgroundTerminals/terminate`."""

    thread_id: str
    process_id: str


class TerminalTerminateResult(Shape, kw_only=True):
    """Whether it ran."""

    terminated: bool
