"""The process's standard streams, taken over before there is an event loop.

Claims file descriptors 0 and 1: a stray `print` anywhere in the process goes to standard error and
cannot corrupt the wire, and children inherit neither. Reads a first line by blocking for it, which
only a process that has nothing else to do yet can afford. `stdio` makes a channel of what is left.
"""

import os
import select
import sys

FIRST_LINE_BYTES = 1 << 20
"""A first line longer than this is left to the channel."""


class ClaimedStreams:
    """Standard input and output of this process under other numbers."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        """Take over two descriptors; use `claim` for the process's own streams."""
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.early = b""
        """What was read and not used yet."""
        self.ended = False
        """Whether the input has ended behind that."""

    def first_line(self) -> bytes | None:
        """Wait for a whole line, which stays unread; None when none comes, or not at once."""
        while (end := self.early.find(b"\n")) < 0:
            if len(self.early) > FIRST_LINE_BYTES:
                return None
            try:
                data = os.read(self.read_fd, 1 << 16)
            except OSError:
                return None  # it does not block, or is no input at all: the channel will see
            if not data:
                self.ended = True
                return None
            self.early += data
        return self.early[:end]

    def drop_line(self) -> None:
        """Have the first line read."""
        self.early = self.early.partition(b"\n")[2]

    def write(self, data: bytes) -> None:
        """Write all of it; raises OSError when nobody reads."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.write_fd, view) :]
            except BlockingIOError:
                select.select((), (self.write_fd,), ())


def claim() -> ClaimedStreams:
    """Take over standard input and output; what is printed from now on goes to standard error."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return ClaimedStreams(read_fd, write_fd)
