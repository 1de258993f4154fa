"""Names of threads in `session_index.jsonl`, which Codex reads and writes as well.

Append-only; the last line of an id wins; an empty name means none.
"""

import os
from pathlib import Path
from typing import Any

import msgspec

from treadle.engine.store.local.rollout_files import Appender
from treadle.engine.store.thread_store import StorageFailed
from treadle.kit.clock import Clock, iso_millis

FILE = "session_index.jsonl"
_lines = msgspec.json.Decoder(dict[str, Any])


class ThreadNames:
    """All names of a home, read again when the file changed."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._path = home / FILE
        self._clock = clock
        self._state: tuple[int, int] | None = None
        self._names: dict[str, str | None] = {}

    def get(self, thread_id: str) -> str | None:
        """The name last read for a thread."""
        return self._names.get(thread_id)

    def changed(self) -> dict[str, str | None]:
        """Names that differ from those of the last call; None for those that went."""
        try:
            stat = os.stat(self._path)
        except OSError:
            state = None
        else:
            state = (stat.st_mtime_ns, stat.st_size)
        if state == self._state:
            return {}
        self._state = state
        before, self._names = self._names, self._read()
        found = {key: name for key, name in self._names.items() if before.get(key) != name}
        return found | dict.fromkeys(before.keys() - self._names.keys())

    def put(self, thread_id: str, name: str | None) -> None:
        """Append a name; raises StorageFailed."""
        stamp = iso_millis(self._clock.now())
        line = {"id": thread_id, "thread_name": name or "", "updated_at": stamp}
        file = Appender(self._path)
        file.put(msgspec.json.encode(line) + b"\n")
        try:
            file.write()
        finally:
            file.close()
        self._names[thread_id] = name or None

    def remove(self, thread_id: str) -> None:
        """Take every line of a thread out of the file; raises StorageFailed."""
        self._names.pop(thread_id, None)
        mark = thread_id.encode()
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if mark not in line]
            if len(kept) == len(lines):
                return
            scratch = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            scratch.write_bytes(b"".join(kept))
            scratch.replace(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageFailed(f"cannot write {self._path}: {error.strerror}") from error

    def _read(self) -> dict[str, str | None]:
        names: dict[str, str | None] = {}
        try:
            data = self._path.read_bytes()
        except OSError:
            return names
        for raw in data.split(b"\n"):
            try:
                line = _lines.decode(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if line.get("id"):
                names[str(line["id"])] = str(line.get("thread_name") or "") or None
        return names
