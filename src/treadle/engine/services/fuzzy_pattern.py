r"""How well a path answers a typed query: pure scoring in the manner of fzf.

The letters of a query must occur in order; runs, beginnings of words and of path segments earn
more, gaps cost. Weights and query operators are those that both reference versions show to clients,
so that a list looks the same here. Knows no disk, no limit and no client.

Words of a query all have to match. A word may carry operators: `^` at the start, `$` at the end,
`'` in one piece, `!` not at all; `\ ` is a blank that belongs to the word.
"""

import functools
import re
import unicodedata
from typing import Literal, NamedTuple

import msgspec

MATCH = 16
GAP_START = 3
GAP_GOES_ON = 1
IN_A_RUN = 4
"""What a letter that follows its predecessor at once earns at least."""
WORD = 8
"""A letter after punctuation or a blank; also punctuation itself."""
SEGMENT = 9
"""A letter after a slash, or first of all."""
HUMP = 5
"""A capital after a small letter, a digit after anything else."""

Kind = Literal["fuzzy", "substring", "prefix", "postfix", "exact"]


class Match(NamedTuple):
    """A path that answers: the higher the score the better; indices of its matched characters."""

    score: int
    indices: tuple[int, ...]


class _State(NamedTuple):
    """The best way to have matched a letter at one place."""

    at: int
    score: int
    run_bonus: int
    before: "_State | None"


class Word(msgspec.Struct, frozen=True):
    """One word of a query, small and without accents."""

    letters: str
    kind: Kind
    negated: bool
    shape: re.Pattern[str]
    """Finds quickly whether the letters occur in order."""


class Pattern(msgspec.Struct, frozen=True):
    """A parsed query; without words it answers nothing."""

    words: tuple[Word, ...]

    def match(self, path: str) -> Match | None:
        """How well `path` answers; None when it does not."""
        text = fold(path)
        total = 0
        indices: set[int] = set()
        for word in self.words:
            found = _match_word(word, path, text)
            if word.negated:
                if found is not None:
                    return None
                continue
            if found is None:
                return None
            total += found.score
            indices.update(found.indices)
        return Match(total, tuple(sorted(indices)))


def parse(query: str) -> Pattern:
    """The pattern that a query asks for."""
    words = re.findall(r"(?:\\\s|\S)+", query)
    return Pattern(tuple(filter(None, map(_word, words))))


def _word(raw: str) -> Word | None:
    negated = raw.startswith("!")
    body = raw[1:] if negated else raw
    kind: Kind = "substring" if negated else "fuzzy"
    if body.startswith("^"):
        body, kind = body[1:], "prefix"
    elif body.startswith("'"):
        body, kind = body[1:], "substring"
    elif body[:2] in {"\\!", "\\^", "\\'"}:
        body = body[1:]
    if body.endswith("\\$"):
        body = body[:-2] + "$"
    elif body.endswith("$"):
        body, kind = body[:-1], "exact" if kind == "prefix" else "postfix"
    letters = fold(re.sub(r"\\(\s)", r"\1", body))
    if not letters:
        return None
    return Word(letters, kind, negated, re.compile(".*?".join(map(re.escape, letters)), re.DOTALL))


def fold(text: str) -> str:
    """`text` small and without accents, character for character."""
    if text.isascii():
        return text.lower()
    return "".join(map(_fold_one, text))


@functools.lru_cache(4096)
def _fold_one(char: str) -> str:
    base = unicodedata.normalize("NFD", char)[0].lower()
    return base if len(base) == 1 else char


def _match_word(word: Word, path: str, text: str) -> Match | None:
    letters = word.letters
    match word.kind:
        case "fuzzy":
            return _fuzzy(word, path, text)
        case "prefix":
            return _run(path, 0, len(letters)) if text.startswith(letters) else None
        case "exact":
            return _run(path, 0, len(letters)) if text == letters else None
        case "postfix":
            fits = text.endswith(letters)
            return _run(path, len(path) - len(letters), len(letters)) if fits else None
        case "substring":
            starts = [found.start() for found in re.finditer(f"(?={re.escape(letters)})", text)]
            runs = (_run(path, start, len(letters)) for start in starts)
            return max(runs, key=lambda run: run.score, default=None)


def _run(path: str, start: int, length: int) -> Match:
    state = _first(path, start)
    for at in range(start + 1, start + length):
        state = _next_in_run(path, state, at)
    return Match(state.score, tuple(range(start, start + length)))


def _fuzzy(word: Word, path: str, text: str) -> Match | None:
    """The best alignment: letter by letter, over the places where each may stand."""
    letters = word.letters
    found = word.shape.search(text)
    if found is None:
        return None
    states = [_first(path, at) for at in _places(letters, text, 0, found.start())]
    for number in range(1, len(letters)):
        places = _places(letters, text, number, states[0].at + 1)
        states = _advance(path, states, places)
    best = max(states, key=lambda state: state.score)
    return Match(best.score, _trail(best))


def _places(letters: str, text: str, number: int, start: int) -> list[int]:
    """Where a letter occurs from `start` on, with room for the letters after it."""
    end = len(text)
    for later in reversed(letters[number + 1 :]):
        end = text.rfind(later, start, end)
    places: list[int] = []
    at = text.find(letters[number], start, end)
    while at >= 0:
        places.append(at)
        at = text.find(letters[number], at + 1, end)
    return places


def _advance(path: str, states: list[_State], places: list[int]) -> list[_State]:
    """The best states of the next letter at `places`, given those of the letter before."""
    following: list[_State] = []
    reachable = 0
    over_gap: _State | None = None  # the best predecessor that leaves a gap, and what it gives
    worth = 0
    previous: int | None = None
    for at in places:
        if previous is not None:
            worth -= GAP_GOES_ON * (at - previous)
        previous = at
        while reachable < len(states) and states[reachable].at < at - 1:
            state = states[reachable]
            gives = state.score - GAP_START - GAP_GOES_ON * (at - state.at - 2)
            if over_gap is None or gives >= worth:
                over_gap, worth = state, gives
            reachable += 1
        adjacent = states[reachable] if reachable < len(states) else None
        if adjacent is not None and adjacent.at != at - 1:
            adjacent = None
        best = _better(path, at, adjacent, over_gap, max(worth, 0))
        if best is not None:
            following.append(best)
    return following


def _better(
    path: str, at: int, adjacent: _State | None, over_gap: _State | None, worth: int
) -> _State | None:
    run = None if adjacent is None else _next_in_run(path, adjacent, at)
    if over_gap is None:
        return run
    bonus = _bonus(path, at)
    leap = _State(at, worth + MATCH + bonus, bonus, over_gap)
    return run if run is not None and run.score >= leap.score else leap


def _first(path: str, at: int) -> _State:
    bonus = _bonus(path, at)
    return _State(at, MATCH + 2 * bonus, bonus, None)


def _next_in_run(path: str, state: _State, at: int) -> _State:
    own = _bonus(path, at)
    carried = max(state.run_bonus, IN_A_RUN)
    if own >= WORD and own > carried:
        carried = own
    return _State(at, state.score + MATCH + max(carried, own), carried, state)


def _trail(state: _State) -> tuple[int, ...]:
    places: list[int] = []
    step: _State | None = state
    while step is not None:
        places.append(step.at)
        step = step.before
    return tuple(reversed(places))


def _bonus(path: str, at: int) -> int:
    """What a match at this place earns for what stands before it."""
    return _bonus_of(path[at - 1] if at else "/", path[at])


@functools.lru_cache(16384)
def _bonus_of(before: str, char: str) -> int:
    previous, own = _kind(before), _kind(char)
    if own in _WORDLIKE and previous in _OPENS:
        return _OPENS[previous]
    if (previous == "lower" and own == "upper") or (previous != "number" and own == "number"):
        return HUMP
    return WORD if own in {"blank", "other"} else 0


_WORDLIKE = {"lower", "upper", "letter", "number"}
_OPENS = {"blank": WORD, "slash": SEGMENT, "other": WORD}


def _kind(char: str) -> str:
    if char == "/":
        return "slash"
    if char.islower():
        return "lower"
    if char.isupper():
        return "upper"
    if char.isnumeric():
        return "number"
    if char.isspace():
        return "blank"
    return "letter" if char.isalpha() else "other"
