"""Unified diff hunks between two texts, without file headers.

Pure. Common heads and tails are cut off first, so that a small change in a large file costs little.
"""

import difflib
from collections.abc import Iterator

_NO_NEWLINE = "\n\\ No newline at end of file\n"
_MATCH_LIMIT = 4_000
"""Lines on both sides above which a differing middle is shown as replaced whole: difflib is
quadratic, and nobody reads such a diff line by line."""


def unified_hunks(old: str, new: str, context: int) -> str:
    """The hunks (`@@ -1,3 +1,3 @@` ...) that turn `old` into `new`; empty when they are equal.

    Args:
        old: text before.
        new: text after.
        context: unchanged lines to show around each change.
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if any("\n" not in line for line in before[:-1] + after[:-1]):
        # splitlines also breaks at form feeds and lone carriage returns; a diff must not.
        before, after = _lines(old), _lines(new)
    parts: list[str] = []
    for group in _groups(before, after, context):
        parts.extend(_hunk(before, after, group))
    return "".join(parts)


def _lines(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


Opcode = tuple[str, int, int, int, int]


def _groups(before: list[str], after: list[str], context: int) -> Iterator[list[Opcode]]:
    head = 0
    limit = min(len(before), len(after))
    while head < limit and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < limit - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    if head == len(before) == len(after):
        return
    codes = _opcodes(before[head : len(before) - tail], after[head : len(after) - tail], head)
    if head:
        codes.insert(0, ("equal", 0, head, 0, head))
    if tail:
        ends = len(before), len(after)
        codes.append(("equal", ends[0] - tail, ends[0], ends[1] - tail, ends[1]))
    yield from _grouped(codes, context)


def _opcodes(before: list[str], after: list[str], offset: int) -> list[Opcode]:
    if min(len(before), len(after)) > _MATCH_LIMIT:
        return [("replace", offset, offset + len(before), offset, offset + len(after))]
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=True)
    return [
        (tag, a + offset, b + offset, c + offset, d + offset)
        for tag, a, b, c, d in matcher.get_opcodes()
    ]


def _grouped(codes: list[Opcode], context: int) -> Iterator[list[Opcode]]:
    """Cut the edit list where unchanged stretches are longer than two contexts."""
    group: list[Opcode] = []
    for index, (tag, a, b, c, d) in enumerate(codes):
        if tag != "equal":
            group.append((tag, a, b, c, d))
            continue
        last = index == len(codes) - 1
        if group and (last or b - a > 2 * context):
            group.append((tag, a, min(b, a + context), c, min(d, c + context)))
            yield group
            group = []
        if not last:
            keep = b - a if group else min(b - a, context)
            group.append((tag, b - keep, b, d - keep, d))
    if any(tag != "equal" for tag, *_ in group):
        yield group


def _hunk(before: list[str], after: list[str], group: list[Opcode]) -> Iterator[str]:
    old = _range(group[0][1], group[-1][2])
    new = _range(group[0][3], group[-1][4])
    yield f"@@ -{old} +{new} @@\n"
    for tag, a, b, c, d in group:
        if tag == "equal":
            yield from (_line(" ", line) for line in before[a:b])
            continue
        yield from (_line("-", line) for line in before[a:b])
        yield from (_line("+", line) for line in after[c:d])


def _line(sign: str, line: str) -> str:
    return sign + line if line.endswith("\n") else sign + line + _NO_NEWLINE


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"
