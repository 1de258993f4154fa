"""When a server that was told to stop may do so. Pure: fed with counts, answers with a verdict."""

from typing import Literal

import msgspec

Verdict = Literal["serve", "wait", "finish"]


class Drain(msgspec.Struct):
    """The state of shutting down.

    A first signal drains: running turns may end, new ones are refused. A second one ends the wait,
    as does the deadline (0.169.0 waits without one; a server that cannot stop is worse).
    """

    signals: int = 0
    waited_seconds: float = 0.0
    patience_seconds: float = 600.0

    def signalled(self) -> None:
        """A stop signal came."""
        self.signals += 1

    def verdict(self, running_turns: int) -> Verdict:
        """What to do while `running_turns` turns run."""
        if self.signals == 0:
            return "serve"
        if running_turns == 0 or self.signals > 1:
            return "finish"
        return "finish" if self.waited_seconds >= self.patience_seconds else "wait"
