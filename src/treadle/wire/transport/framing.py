"""Line framing: bytes in any pieces to lines, sans-IO.

One JSON message per line feed (protocol 0.129.0 and 0.169.0). Blank lines are skipped, a carriage
return before the line feed is JSON white space. A line past the limit is discarded as a whole, so
that one mad message costs neither memory nor the connection.
"""


class LineSplitter:
    """Collects bytes and gives whole lines."""

    def __init__(self, limit_bytes: int) -> None:
        """Discard lines longer than `limit_bytes`."""
        self._limit = limit_bytes
        self._rest = b""
        self._skipping = False
        self.discarded = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their line feeds."""
        if self._skipping:
            _, found, data = data.partition(b"\n")
            if not found:
                return []
            self._skipping = False
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > self._limit:
            self._rest = b""
            self._skipping = True
            self.discarded += 1
        whole = [line for line in lines if line and not line.isspace()]
        kept = [line for line in whole if len(line) <= self._limit]
        self.discarded += len(whole) - len(kept)
        return kept

    def end(self) -> list[bytes]:
        """The unfinished last line at end of input, if it says anything."""
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip() else []
