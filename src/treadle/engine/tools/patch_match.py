"""Finding a hunk's lines in a file: exactly first, then ever more forgivingly.

Models copy lines with small slips: trailing blanks, other indentation, typographic quotes and
dashes. Pure functions over lists of lines; knows nothing of patches or files.
"""

from collections.abc import Callable, Sequence

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_SINGLE = "\u2018\u2019\u201a\u201b"
_DOUBLE = "\u201c\u201d\u201e\u201f"
_BLANKS = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_PLAIN = str.maketrans(
    {
        **dict.fromkeys(_DASHES, "-"),
        **dict.fromkeys(_SINGLE, "'"),
        **dict.fromkeys(_DOUBLE, '"'),
        **dict.fromkeys(_BLANKS, " "),
    }
)


def _plain(line: str) -> str:
    return line.strip().translate(_PLAIN)


_VIEWS: tuple[Callable[[str], str], ...] = (str, str.rstrip, str.strip, _plain)
"""How lines are compared, strictest first; a later view only counts when all earlier failed."""


def find_lines(
    lines: Sequence[str], wanted: Sequence[str], start: int, *, at_end: bool = False
) -> int | None:
    """Index of the first place at or after `start` where `wanted` stands, or None.

    Args:
        lines: the file.
        wanted: consecutive lines to find; none of them means `start` itself.
        start: first index to consider.
        at_end: try the very end of the file first.
    """
    if not wanted:
        return start
    last = len(lines) - len(wanted)
    if last < 0:
        return None
    first = last if at_end and last >= start else start
    for begin in (first, start) if first != start else (start,):
        for view in _VIEWS:
            found = _find(lines, [view(line) for line in wanted], begin, last, view)
            if found is not None:
                return found
    return None


def _find(
    lines: Sequence[str], wanted: list[str], start: int, last: int, view: Callable[[str], str]
) -> int | None:
    for index in range(start, last + 1):
        if view(lines[index]) != wanted[0]:
            continue
        if all(view(lines[index + k]) == line for k, line in enumerate(wanted)):
            return index
    return None
