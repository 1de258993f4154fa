"""Names of threads in `session_index.jsonl`, which Codex reads and writes as well.

An empty name means none.
"""

from pathlib import Path

from treadle.engine.store.local.home_lines import HomeLines
from treadle.kit.clock import Clock, iso_millis

FILE = "session_index.jsonl"


class ThreadNames:
    """All names of a home, read again when the file changed."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._lines = HomeLines(home / FILE, clock)
        self._clock = clock
        self._names: dict[str, str | None] = {}

    def get(self, thread_id: str) -> str | None:
        """The name last read for a thread."""
        return self._names.get(thread_id)

    def changed(self) -> dict[str, str | None]:
        """Names that differ from those of the last call; None for those that went."""
        if not self._lines.changed():
            return {}
        before = self._names
        self._names = {
            str(line["id"]): str(line.get("thread_name") or "") or None
            for line in self._lines.read()
        }
        found = {key: name for key, name in self._names.items() if before.get(key) != name}
        return found | dict.fromkeys(before.keys() - self._names.keys())

    def put(self, thread_id: str, name: str | None) -> None:
        """Append a name; raises StorageFailed."""
        stamp = iso_millis(self._clock.now())
        self._lines.append({"id": thread_id, "thread_name": name or "", "updated_at": stamp})
        self._names[thread_id] = name or None

    def remove(self, thread_id: str) -> None:
        """Take every line of a thread out of the file; raises StorageFailed."""
        self._names.pop(thread_id, None)
        self._lines.remove(thread_id)
