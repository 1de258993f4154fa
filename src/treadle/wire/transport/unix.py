"""A listening unix socket with one owner at a time.

Owns the path: who may take it, what is removed from it and when. A socket whose server is dead is
replaced, a living server's is not, and anything that is no socket is never touched. What is spoken
over the connections is not known here.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOCK_SECONDS = 5.0
"""How long another server may take to start in the same folder."""

_MAX_PATH_BYTES = 103
"""What every supported system takes as the name of a unix socket."""


class SocketUnusable(Exception):
    """The path cannot be listened on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A bound and listening socket at `path`."""

    socket: socket.socket
    path: Path
    _identity: tuple[int, int]

    def release(self) -> None:
        """Stop listening and remove the path, unless somebody else has put another file there."""
        self.socket.close()
        try:
            if _identity(self.path) == self._identity:
                self.path.unlink()
        except OSError:
            return


def claim_unix_socket(path: Path, *, private_folder: bool = False) -> UnixListener:
    """Listen at `path`; only this user may connect.

    Args:
        path: where; relative paths count from the working folder.
        private_folder: make the folder, with access for this user alone.

    Raises:
        SocketUnusable: another server has it, something else lies there, or it cannot be made.
    """
    path = path.absolute()
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise SocketUnusable(
            f"the socket path {path} is longer than {_MAX_PATH_BYTES} bytes, which systems do not "
            "take; name a shorter one with --listen unix:///PATH"
        )
    try:
        if private_folder:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.chmod(0o700)
        with _locked(path.parent):
            _clear(path)
            return _bind(path)
    except OSError as error:
        raise SocketUnusable(f"cannot listen on {path}: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Keep other servers from starting in the folder; the lock leaves no file behind."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(int(LOCK_SECONDS / 0.05)):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        else:
            raise SocketUnusable(f"another server has been starting in {folder} for too long")
        yield
    finally:
        os.close(fd)


def _clear(path: Path) -> None:
    """Remove a dead server's socket; raise SocketUnusable for everything else that lies there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketUnusable(
            f"{path} exists and is no socket; it was left alone. Move it away, or name another path"
        )
    if _is_served(path):
        raise SocketUnusable(
            f"app-server control socket is already in use at {path}; stop that server, or name "
            "another path"
        )
    path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            # A full backlog (EAGAIN) is a busy server, not a dead one.
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
        return True


def _bind(path: Path) -> UnixListener:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        # Nobody can connect before listen(), so the mode is right from the first connection on.
        path.chmod(0o600)
        listener.listen(128)
        listener.setblocking(False)
        return UnixListener(listener, path, _identity(path))
    except OSError:
        listener.close()
        raise


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
