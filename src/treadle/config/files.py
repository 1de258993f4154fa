"""Reading files once: texts are kept as long as a file's stat stays the same.

A `Reading` notes every file it looked at, so that whatever was made from it can be kept until one
of them changes. Used by `load` only.
"""

import os
import stat
from pathlib import Path

import msgspec

from treadle.config.errors import ConfigError
from treadle.kit.clock import Clock, SystemClock

Signature = tuple[int, int, int, int, int]
_SETTLE_SECONDS = 0.1


def _signature(path: str) -> Signature | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(found.st_mode):
        # What happens inside a folder changes its times; that it is one is all that counts here.
        return (stat.S_IFDIR, 0, 0, 0, 0)
    return (found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class FileReader:
    """Texts of files by path, read again when the file changed."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._texts: dict[str, tuple[Signature, str]] = {}

    def start(self) -> "Reading":
        """A new reading that has looked at nothing yet."""
        return Reading(self)

    def is_current(self, reading: "Reading") -> bool:
        """Whether all files that the reading looked at are as they were then."""
        return not reading.unsettled and all(
            _signature(path) == seen for path, seen in reading.seen.items()
        )

    def settled(self, signature: Signature) -> bool:
        """Whether a later change is sure to show: not while the last one is within a clock tick."""
        return self._clock.now() - signature[3] / 1e9 > _SETTLE_SECONDS

    def load(self, path: str, signature: Signature) -> str:
        """The text of the file with this signature.

        Raises:
            ConfigError: it cannot be read or is not UTF-8.
        """
        kept = self._texts.get(path)
        if kept is not None and kept[0] == signature and self.settled(signature):
            return kept[1]
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError("the file is not UTF-8 text", kind="syntax", path=path) from error
        except OSError as error:
            reason = error.strerror or "cannot be read"
            raise ConfigError(reason, kind="syntax", path=path) from error
        self._texts[path] = (signature, text)
        return text


class Reading(msgspec.Struct):
    """What was looked at, and how it was then."""

    reader: FileReader
    seen: dict[str, Signature | None] = msgspec.field(default_factory=dict[str, Signature | None])
    unsettled: bool = False

    def text(self, path: Path) -> str | None:
        """A file's text, None when there is no such file.

        Raises:
            ConfigError: it exists and cannot be read.
        """
        signature = self._look(path)
        if signature is None:
            return None
        if not self.reader.settled(signature):
            self.unsettled = True
        return self.reader.load(str(path), signature)

    def exists(self, path: Path) -> bool:
        """Whether anything is at the path."""
        return self._look(path) is not None

    def is_folder(self, path: Path) -> bool:
        """Whether a folder is at the path."""
        signature = self._look(path)
        return signature is not None and signature[0] == stat.S_IFDIR

    def _look(self, path: Path) -> Signature | None:
        name = str(path)
        signature = _signature(name)
        self.seen[name] = signature
        return signature
