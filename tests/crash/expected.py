"""What must be there after the server was killed, folded from what its clients heard."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Expected:
    """One thread as its clients know it."""

    items: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Turn, kind and id of each item that was heard of, in order."""
    turns: list[str] = field(default_factory=list[str])
    """Turns in order; one that was interrupted at once has no items."""
    statuses: dict[str, str] = field(default_factory=dict[str, str])
    allowed: dict[str, set[Any]] = field(default_factory=dict[str, set[Any]])
    """Marks and what each may be: several where a change was asked for and not answered."""
    deleted: bool | None = False
    """None when it was asked for and not answered."""
    dropping: bool = False
    """Turns were asked to be taken back, and no answer came."""

    def saw(self, turn_id: str) -> None:
        if turn_id not in self.turns:
            self.turns.append(turn_id)

    def may_be(self, mark: str, value: Any, *, sure: bool) -> None:
        if sure:
            self.allowed[mark] = {value}
        else:
            self.allowed.setdefault(mark, {None if mark != "archived" else False}).add(value)


_MARKS = {"archive": ("archived", True), "unarchive": ("archived", False)}


class Model:
    """All threads of one home, over all its lives."""

    def __init__(self) -> None:
        self.threads: dict[str, Expected] = {}

    def take(self, journal: Iterable[dict[str, Any]]) -> None:
        """Take what one life wrote down."""
        for entry in journal:
            match entry["what"]:
                case "item":
                    item = entry["item"]
                    known = self.threads.setdefault(entry["thread"], Expected())
                    known.saw(entry["turn"])
                    known.items.append((entry["turn"], item["type"], item["id"]))
                case "turn":
                    known = self.threads[entry["thread"]]
                    known.saw(entry["turn"])
                    known.statuses[entry["turn"]] = entry["status"]
                case "begin":
                    self._change(entry, sure=False)
                case "end":
                    self._change(entry, sure=True)
                case _:
                    self._refused(entry)

    def _change(self, entry: dict[str, Any], *, sure: bool) -> None:
        deed = entry["deed"]
        if deed == "create":
            return  # nothing is stored before its first turn
        if deed == "fork":
            if sure:
                source = self.threads.get(entry["source"], Expected())
                made = self.threads[entry["thread"]] = Expected()
                made.items, made.turns = list(source.items), list(source.turns)
            return
        thread = self.threads.setdefault(entry["thread"], Expected())
        if deed in _MARKS:
            mark, value = _MARKS[deed]
            thread.may_be(mark, value, sure=sure)
        elif deed == "delete":
            thread.deleted = True if sure else None
        elif deed == "rollback":
            self._roll_back(thread, sure=sure)
        else:
            thread.may_be(deed, entry["value"], sure=sure)

    def _roll_back(self, thread: Expected, *, sure: bool) -> None:
        thread.dropping = not sure
        if sure and thread.turns:
            last = thread.turns.pop()
            thread.items = [each for each in thread.items if each[0] != last]
            thread.statuses.pop(last, None)

    def _refused(self, entry: dict[str, Any]) -> None:
        """A request that was refused changed nothing; which value stood before is not known."""
        thread = self.threads.get(entry.get("thread", ""))
        if thread is None:
            return
        if entry["deed"] == "delete":
            thread.deleted = False
        thread.dropping = False
        mark = _MARKS.get(entry["deed"], (entry["deed"], None))[0]
        if mark in thread.allowed and len(thread.allowed[mark]) > 1:
            value = _MARKS.get(entry["deed"], (None, entry.get("value")))[1]
            thread.allowed[mark].discard(value)

    # ------------------------------------------------------------------ comparing

    def problems(self, seen: dict[str, Any]) -> list[str]:
        """How what is seen differs from what must be there; empty when it does not."""
        found: list[str] = []
        for thread_id, expected in self.threads.items():
            if thread_id not in seen:
                if expected.deleted is False and (expected.items or expected.statuses):
                    found.append(f"{thread_id}: gone")
            elif expected.deleted is True:
                found.append(f"{thread_id}: came back")
            else:
                found += [f"{thread_id}: {text}" for text in _compare(expected, seen[thread_id])]
        return found

    def settle(self, seen: dict[str, Any]) -> None:
        """Where two outcomes were right, the one that is there counts from now on."""
        for thread_id, expected in self.threads.items():
            if thread_id not in seen:
                expected.deleted = True
                continue
            expected.deleted = False
            there = seen[thread_id]
            expected.items = _items(there)
            expected.turns = [turn["id"] for turn in there["thread"]["turns"]]
            expected.statuses = {t["id"]: t["status"] for t in there["thread"]["turns"]}
            expected.dropping = False
            expected.allowed = {mark: {value} for mark, value in _marks(there).items()}


def _items(there: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (turn["id"], item["type"], item["id"])
        for turn in there["thread"]["turns"]
        for item in turn["items"]
    ]


def _marks(there: dict[str, Any]) -> dict[str, Any]:
    git = there["thread"]["gitInfo"] or {}
    return {
        "archived": there["archived"],
        "name": there["thread"]["name"],
        "git": git.get("branch"),
    }


def _compare(expected: Expected, there: dict[str, Any]) -> list[str]:
    found: list[str] = []
    items = _items(there)
    if len(set(items)) != len(items):
        found.append("an item is there twice")
    wanted = expected.items
    if expected.dropping and expected.turns:
        last = expected.turns[-1]
        if last not in {turn["id"] for turn in there["thread"]["turns"]}:
            wanted = [each for each in wanted if each[0] != last]
    kept = [each for each in items if each in set(wanted)]
    if kept != wanted:
        missing = [each for each in wanted if each not in set(items)]
        found.append(f"lost {missing}" if missing else "items are out of order")
    statuses = {turn["id"]: turn["status"] for turn in there["thread"]["turns"]}
    for turn_id, status in expected.statuses.items():
        if not expected.dropping and statuses.get(turn_id) != status:
            found.append(f"turn {turn_id} was {status}, is {statuses.get(turn_id)}")
    marks = _marks(there)
    for mark, allowed in expected.allowed.items():
        if marks.get(mark) not in allowed:
            found.append(f"{mark} is {marks.get(mark)!r}, not one of {allowed}")
    return found
