"""Stop signals as events that a command can wait for."""

import asyncio
import signal


class StopSignals:
    """Counts SIGINT and SIGTERM; `first` and `second` are set as they come."""

    def __init__(self) -> None:
        """Take the signals over for this process; needs a running event loop."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._came)

    def _came(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
