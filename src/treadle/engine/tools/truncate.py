"""Bounding what commands say: for memory, for watchers, and for the model's context.

`OutputBuffer` keeps the head and the tail of a stream of text in bounded memory and knows how much
it saw. Pure; the wording of cuts is that of the references where models read it.
"""

from collections import deque

CHARS_PER_TOKEN = 4
"""The references' rule of thumb for text of unknown kind."""


class OutputBuffer:
    """Head and tail of a growing text."""

    def __init__(self, limit_chars: int) -> None:
        """Keep at most `limit_chars`, half of them from the beginning and half from the end."""
        self._half = limit_chars // 2
        self._head: list[str] = []
        self._head_chars = 0
        self._tail: deque[str] = deque()
        self._tail_chars = 0
        self.total_chars = 0
        self.total_bytes = 0
        """Length in UTF-8."""
        self.newlines = 0

    def push(self, text: str) -> None:
        """Append `text`."""
        self.total_chars += len(text)
        self.total_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        self.newlines += text.count("\n")
        room = self._half - self._head_chars
        if room > 0:
            self._head.append(text[:room])
            self._head_chars += len(self._head[-1])
            text = text[room:]
        if not text:
            return
        self._tail.append(text)
        self._tail_chars += len(text)
        while self._tail_chars - len(self._tail[0]) >= self._half:
            self._tail_chars -= len(self._tail.popleft())

    @property
    def head(self) -> str:
        """The kept beginning."""
        return "".join(self._head)

    @property
    def tail(self) -> str:
        """The kept end of what did not fit into the head."""
        return "".join(self._tail)[-self._half :] if self._tail else ""

    @property
    def missing_chars(self) -> int:
        """How many characters between head and tail are gone."""
        return self.total_chars - self._head_chars - min(self._tail_chars, self._half)

    def text(self) -> str:
        """Everything kept, with a line that says what was cut."""
        missing = self.missing_chars
        if missing <= 0:
            return self.head + self.tail
        return f"{self.head}\n[... {missing} characters cut ...]\n{self.tail}"

    @property
    def tokens(self) -> int:
        """Estimate of the whole stream's length in tokens."""
        return token_estimate(self.total_bytes)

    def for_model(self, budget_tokens: int) -> str:
        """The text within `budget_tokens`, its middle cut out and announced when it is longer."""
        budget_chars = budget_tokens * CHARS_PER_TOKEN
        if self.total_bytes <= budget_chars and self.missing_chars <= 0:
            return self.head + self.tail
        lines = self.newlines + (0 if self.text().endswith("\n") else 1)
        return (
            f"Warning: truncated output (original token count: {self.tokens})\n"
            f"Total output lines: {lines}\n\n{self._ends(budget_chars)}"
        )

    def _ends(self, budget_chars: int) -> str:
        half = min(budget_chars // 2, self._half)
        whole = self.head + self.tail
        head, tail = whole[:half], whole[len(whole) - half :] if half else ""
        cut = token_estimate(self.total_chars - len(head) - len(tail))
        return f"{head}…{cut} tokens truncated…{tail}"


def token_estimate(length_bytes: int) -> int:
    """How many tokens a text of this length probably has."""
    return -(-length_bytes // CHARS_PER_TOKEN)


def cut_text(text: str, limit_chars: int) -> str:
    """`text` within `limit_chars`, its middle replaced by a note of what is missing."""
    if len(text) <= limit_chars:
        return text
    half = limit_chars // 2
    cut = token_estimate(len(text) - 2 * half)
    return f"{text[:half]}…{cut} tokens truncated…{text[len(text) - half :]}"
