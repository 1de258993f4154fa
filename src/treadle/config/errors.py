"""What can be wrong with configuration, and where in which file.

Owns the two forms a fault takes: a problem (told to clients, start-up goes on) and an error (the
operation that needed the configuration fails). Refuses to know files and the protocol's envelopes.
"""

from typing import Literal

import msgspec


class TextPosition(msgspec.Struct, frozen=True):
    """A character of a text, both numbers counted from 1."""

    line: int
    column: int


class TextRange(msgspec.Struct, frozen=True):
    """From one character to another, the last one included."""

    start: TextPosition
    end: TextPosition


class ConfigProblem(msgspec.Struct, frozen=True):
    """Something to warn about: a short summary, and what is known of the cause and its place."""

    summary: str
    details: str | None = None
    path: str | None = None
    range: TextRange | None = None


ErrorKind = Literal["syntax", "value", "meaning", "requirements"]


class ConfigError(Exception):
    """The configuration cannot be used as it stands.

    Its text is what a thread's start answers. `kind` is "syntax" for text that is no TOML, "value"
    for a key of a wrong type or with a value that is not allowed, "meaning" for values that fail
    together (an unknown provider), "requirements" for the administrator's file.
    """

    def __init__(
        self,
        reason: str,
        *,
        kind: ErrorKind = "meaning",
        key: tuple[str, ...] = (),
        path: str | None = None,
        range: TextRange | None = None,
        place: tuple[str, ...] = (),
    ) -> None:
        """Keep what is known; `place` is the key to look for in files when it is not `key`."""
        self.reason = reason
        self.kind: ErrorKind = kind
        self.key = key
        self.place = place or key
        self.path = path
        self.range = range
        super().__init__(f"failed to load configuration: {self.details}")

    @property
    def details(self) -> str:
        """The reason with its place: `file:line:column: reason`, or the key when no file has it."""
        if self.path is not None and self.range is not None:
            return f"{self.path}:{self.range.start.line}:{self.range.start.column}: {self.reason}"
        if self.path is not None:
            return f"{self.path}: {self.reason}"
        return self.keyed_reason

    @property
    def keyed_reason(self) -> str:
        """The reason and, when a value is at fault, the key that holds it."""
        if self.kind == "value" and self.key:
            return f"{self.reason}\nin `{'.'.join(self.key)}`\n"
        return self.reason

    @property
    def read_message(self) -> str:
        """What reading the effective configuration answers for this error."""
        if self.kind == "value":
            return f"invalid configuration: {self.keyed_reason}"
        if self.kind == "meaning":
            return f"failed to resolve feature override precedence: {self.details}"
        return f"failed to read configuration layers: {self.details}"

    def as_problem(self) -> ConfigProblem:
        """The warning for clients of a server that goes on with defaults."""
        return ConfigProblem(
            "Invalid configuration; using defaults.", self.details, self.path, self.range
        )


class FlagError(ValueError):
    """A `-c` or `--enable` on the command line that cannot be used; the process must not start."""
