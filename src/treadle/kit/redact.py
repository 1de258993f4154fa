"""Keeps known secrets out of text, also when a secret is cut across the pieces of a stream.

A `Redactor` knows exact values and the forms they take when encoded (base64 at any alignment, URL
and JSON escapes, hex). A `RedactedStream` is one flow of pieces: it holds back what may be the
beginning of a secret until the next piece shows whether it is. Shapes of common tokens are an
option, because they are guesses. Knows nothing of where secrets come from or where text goes.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast
from urllib.parse import quote, quote_plus

MARK = "[redacted]"
MIN_SECRET_CHARS = 6
"""Shorter values are ignored: they would blank out ordinary words."""

JSON_DEPTH = 4
"""JSON text inside JSON text: a tool's arguments in a message in a log are three deep."""

# A shape may begin where a word does, and right after an escape of JSON text inside JSON text.
_TOKEN_SHAPES = re.compile(
    r"""
    (?: \b | (?<=\\[bfnrt]) )
    (?: sk-[A-Za-z0-9_-]{20,}
      | gh[pousr]_[A-Za-z0-9]{30,}
      | github_pat_[A-Za-z0-9_]{30,}
      | xox[abprs]-[A-Za-z0-9-]{10,}
      | AKIA[0-9A-Z]{16}\b
      | tdl_[A-Za-z0-9_-]{18,}
      | eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}
    )
    | (?<=[Bb]earer\ )[A-Za-z0-9._~+/=-]{20,}
    """,
    re.VERBOSE,
)
# Without one of these no shape is there: much cheaper to look for than the shapes themselves.
_SHAPE_HINTS = (
    *("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    *("xox", "AKIA", "tdl_", "eyJ", "earer "),
)
# Escapes that hide an ASCII letter or a slash in JSON text.
_HIDING_ESCAPES = ("\\u00", "\\/")


class Redactor:
    """Replaces secrets by a mark, in whole texts, in JSON values and in streams."""

    def __init__(self, secrets: Iterable[str], *, token_shapes: bool = False) -> None:
        """Know `secrets` in all their forms.

        Args:
            secrets: exact values; those below `MIN_SECRET_CHARS` are ignored.
            token_shapes: also blank out what merely looks like a well-known kind of token.
        """
        forms = {form for secret in secrets for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._longest = len(self._forms[0]) if self._forms else 0
        self._beginnings = {form[:size] for form in forms for size in range(1, MIN_SECRET_CHARS)}
        self._by_head: dict[str, list[str]] = {}
        for form in self._forms:
            self._by_head.setdefault(form[:MIN_SECRET_CHARS], []).append(form)
        self._shapes = _TOKEN_SHAPES if token_shapes else None

    def text(self, text: str) -> str:
        """`text` without secrets."""
        exact = self._find_in(text)
        if exact is not None:
            text = exact.sub(MARK, text)
        return self._blank_shapes(text)

    def suspects(self, encoded: str) -> bool:
        """Whether JSON text may hold what `value` would redact; False is certain."""
        if any(escape in encoded for escape in _HIDING_ESCAPES):
            return True
        if self._shapes is not None and any(hint in encoded for hint in _SHAPE_HINTS):
            return True
        return any(form in encoded for form in self._forms)

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it redacted, keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            return {self.text(key): self.value(member) for key, member in members.items()}
        if isinstance(value, list):
            return [self.value(entry) for entry in cast("list[Any]", value)]
        return value

    def stream(self) -> "RedactedStream":
        """A fresh stream; use one per flow of text, such as the output of one command."""
        return RedactedStream(self)

    def split(self, text: str) -> tuple[str, str]:
        """Redact as much of `text` as is certain; the rest may be the beginning of a secret."""
        exact = self._find_in(text)
        done: list[str] = []
        position = 0
        hold = self._hold_from(text, 0)
        while match := exact.search(text, position) if exact is not None else None:
            if match.start() >= hold:
                break
            done += (text[position : match.start()], MARK)
            position = match.end()
            if position > hold:
                hold = self._hold_from(text, position)
        done.append(text[position:hold])
        safe = "".join(done)
        return self._blank_shapes(safe), text[hold:]

    def _blank_shapes(self, text: str) -> str:
        if self._shapes is None or not any(hint in text for hint in _SHAPE_HINTS):
            return text
        return self._shapes.sub(MARK, text)

    def _hold_from(self, text: str, start: int) -> int:
        """The earliest place from which `text` may be the beginning of a secret."""
        begin = max(start, len(text) - self._longest + 1)
        for place in range(begin, len(text) - MIN_SECRET_CHARS + 1):
            likely = self._by_head.get(text[place : place + MIN_SECRET_CHARS], ())
            tail = text[place:] if likely else ""
            if any(len(tail) < len(form) and form.startswith(tail) for form in likely):
                return place
        for place in range(max(begin, len(text) - MIN_SECRET_CHARS + 1), len(text)):
            if text[place:] in self._beginnings:
                return place
        return len(text)

    def _find_in(self, text: str) -> re.Pattern[str] | None:
        """A pattern of the forms that are there, longest first; most texts have none.

        Looking for each form by itself is far cheaper than one pattern of them all, and with many
        secrets this is what keeps a runner fast enough to renew its lease.
        """
        present = [re.escape(form) for form in self._forms if form in text]
        return re.compile("|".join(present)) if present else None


class RedactedStream:
    """One flow of text in pieces. What comes out, joined, never holds a whole secret."""

    def __init__(self, redactor: Redactor) -> None:
        """Start with nothing held back."""
        self._redactor = redactor
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece; returns what is certain by now, possibly nothing."""
        safe, self._held = self._redactor.split(self._held + piece)
        return safe

    def flush(self) -> str:
        """End of the flow: what was held back was no secret after all, or is redacted."""
        held, self._held = self._held, ""
        return self._redactor.text(held)


def _forms(secret: str) -> Iterator[str]:
    if len(secret) < MIN_SECRET_CHARS:
        return
    raw = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    for escaped in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        for _ in range(JSON_DEPTH):
            yield escaped
            escaped = json.dumps(escaped)[1:-1]  # noqa: PLW2901 - one level deeper
    yield raw.hex()
    yield from _base64_forms(raw)


def _base64_forms(raw: bytes) -> Iterator[str]:
    """The characters that encode `raw` alone, at each of the three places it can start."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # Each character holds six bits; those that share bits with neighbours are left out.
        first = -(-shift * 8 // 6)
        last = (shift + len(raw)) * 8 // 6
        inner = whole[first:last]
        if len(inner) >= MIN_SECRET_CHARS:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")
