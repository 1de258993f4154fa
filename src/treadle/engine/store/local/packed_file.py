"""Compressed rollouts (`.jsonl.zst`): opened as a stream, so that a head costs no more than itself.

The one home of the decompressor, which loads with the first compressed file.
"""

import io
from pathlib import Path
from typing import IO, cast

from treadle.engine.store.thread_store import StorageFailed

_CHUNK = 1 << 16


def is_packed(path: Path | str) -> bool:
    """Whether a file's name says that it is compressed."""
    return str(path).endswith(".zst")


def open_packed(path: Path | str) -> io.BufferedIOBase:
    """Read a compressed file as if it were plain; raises OSError when it cannot be opened.

    Damage, a missing end included, raises StorageFailed from the read that meets it.
    """
    return io.BufferedReader(_Unpacking(str(path)), _CHUNK)


class _Unpacking(io.RawIOBase):
    """Bytes of a compressed file, of all its frames in turn."""

    def __init__(self, path: str) -> None:
        import zstandard

        self._path = path
        self._fault = zstandard.ZstdError
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._plain = b""
        self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115 - closed with the stream

    def readable(self) -> bool:
        """True, as io.BufferedReader wants to know."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as there is something; 0 at the end."""
        while not self._plain and self._more():
            pass
        view = memoryview(cast("bytearray", buffer)).cast("B")
        data, self._plain = self._plain[: len(view)], self._plain[len(view) :]
        view[: len(data)] = data
        return len(data)

    def _more(self) -> bool:
        """Unpack a further piece; False at the end of the file."""
        self._packed = self._packed or self._file.read(_CHUNK)
        if not self._packed:
            if self._frame is not None:
                raise StorageFailed(f"cannot unpack rollout {self._path}: its end is missing")
            return False
        frame = self._frame = self._frame or self._new_frame()
        try:
            self._plain = frame.decompress(self._packed)
        except self._fault as error:
            raise StorageFailed(f"cannot unpack rollout {self._path}: {error}") from error
        self._packed = frame.unused_data if frame.eof else b""
        if frame.eof:
            self._frame = None
        return True

    def close(self) -> None:
        """Let the file go; idempotent."""
        self._file.close()
        super().close()
