"""What is known of a thread and not in its rollout: `treadle_marks.jsonl` of the home.

Marks are set on threads that are archived, compressed, or written by another process, where a line
of the rollout itself is out of reach. They are as much the truth as the rollouts are.
"""

from pathlib import Path
from typing import Any

import msgspec

from treadle.engine.store.local.home_lines import HomeLines
from treadle.engine.store.thread_store import ThreadInfo
from treadle.kit.clock import Clock

FILE = "treadle_marks.jsonl"


class Marks(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All marks of one thread; a mark that is not set says nothing."""

    id: str
    git: dict[str, Any] | None = None
    memory_mode: str | None = None
    preview: str = ""
    """First words of a thread whose own log has none (a fork from before the first turn)."""
    recency_at: float = 0.0
    tokens_used: int = 0
    parent_id: str | None = None
    """The thread that spawned this one, where its head does not say so."""


class ThreadMarks:
    """All marks of a home, read again when the file changed."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._lines = HomeLines(home / FILE, clock)
        self._marks: dict[str, Marks] = {}

    def changed(self) -> dict[str, Marks]:
        """Marks that differ from those of the last call; those that went are empty."""
        if not self._lines.changed():
            return {}
        before, self._marks = self._marks, {}
        for line in self._lines.read():
            try:
                marks = msgspec.convert(line, Marks)
            except msgspec.ValidationError:
                continue
            self._marks[marks.id] = marks
        found = {key: marks for key, marks in self._marks.items() if before.get(key) != marks}
        return found | {key: Marks(id=key) for key in before.keys() - self._marks.keys()}

    def get(self, thread_id: str) -> Marks:
        """The marks last read for a thread."""
        return self._marks.get(thread_id) or Marks(id=thread_id)

    def put(self, marks: Marks) -> None:
        """Append a thread's marks unless they are known; raises StorageFailed."""
        if marks != self.get(marks.id):
            self._lines.append(msgspec.to_builtins(marks))
            self._marks[marks.id] = marks

    def keep(self, told: ThreadInfo, wanted: ThreadInfo, *, logged: bool) -> None:
        """Remember of `wanted` what `told`, which files and marks tell, lacks.

        `logged` says that the log of the thread itself tells when a user spoke last.
        """
        known = self.get(wanted.thread_id)
        names = ["git", "memory_mode", "preview", "tokens_used"]
        if not logged:
            names.append("recency_at")
        changes: dict[str, Any] = {
            name: getattr(wanted, name)
            for name in names
            if getattr(wanted, name) != getattr(told, name)
        }
        if changes.get("git", 0) is None:
            changes["git"] = {}
        if changes:
            self.put(msgspec.structs.replace(known, **changes))

    def apply(self, info: ThreadInfo) -> None:
        """Add the marks to what a rollout tells."""
        marks = self.get(info.thread_id)
        info.git = marks.git if marks.git is not None else info.git
        info.memory_mode = marks.memory_mode or info.memory_mode
        info.preview = marks.preview or info.preview
        info.recency_at = max(info.recency_at, marks.recency_at)
        info.tokens_used = marks.tokens_used or info.tokens_used

    def remove(self, thread_id: str) -> None:
        """Forget a thread; raises StorageFailed."""
        self._marks.pop(thread_id, None)
        self._lines.remove(thread_id)
        for marks in [each for each in self._marks.values() if each.parent_id == thread_id]:
            self.put(msgspec.structs.replace(marks, parent_id=None))
