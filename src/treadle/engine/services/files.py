"""A client's own file work: read, write, list, copy, remove; no sandbox, no thread.

Owns what each operation means where the operating system leaves a choice. All functions block and
are meant for a thread; they raise OSError as the system said it, and Refused where the request
itself does not fit. Watching is `file_watches`.
"""

import os
import stat
from pathlib import Path

import msgspec

from treadle.engine.services.errors import Refused


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a path is; times in milliseconds since 1970, 0 when unknown."""

    is_directory: bool
    is_file: bool
    is_symlink: bool
    created_at_ms: int
    modified_at_ms: int


def read_file(path: str) -> bytes:
    """The whole of a regular file; Refused for anything else, a pipe would never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Refused(f"path `{path}` is not a file")
    return Path(path).read_bytes()


def write_file(path: str, data: bytes) -> None:
    """Replace the content, through links, keeping the mode; the folder must exist."""
    Path(path).write_bytes(data)


def create_directory(path: str, *, recursive: bool) -> None:
    """Make a folder; with `recursive` also its parents, and one that exists will do."""
    if recursive:
        Path(path).mkdir(parents=True, exist_ok=True)
    else:
        Path(path).mkdir()


def facts(path: str) -> Facts:
    """What is behind `path`, and whether it is a link itself."""
    found = os.stat(path)
    return Facts(
        is_directory=stat.S_ISDIR(found.st_mode),
        is_file=stat.S_ISREG(found.st_mode),
        is_symlink=Path(path).is_symlink(),
        created_at_ms=0,  # Linux's stat does not tell
        modified_at_ms=found.st_mtime_ns // 1_000_000,
    )


def list_directory(path: str) -> list[tuple[str, bool, bool]]:
    """Name, whether a folder, whether a file; by name. Links count as what they point to."""
    with os.scandir(path) as entries:
        return sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)


def remove(path: str, *, recursive: bool, force: bool) -> None:
    """Remove a file, a link (not its target) or a folder; with `force` a missing one is fine."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(path)
        elif recursive:
            import shutil

            shutil.rmtree(path)
        else:
            os.rmdir(path)
    except FileNotFoundError:
        if not force:
            raise


def copy(source: str, destination: str, *, recursive: bool) -> None:
    """Copy a file over whatever file is there, a link as a link, a folder into a folder.

    Raises:
        Refused: a folder without `recursive`, a special file, a file onto itself, or a folder
            into itself; nothing was touched then.
        OSError: as the system said.
    """
    mode = os.lstat(source).st_mode
    if stat.S_ISDIR(mode):
        _copy_tree(source, destination, recursive=recursive)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), destination)
    elif stat.S_ISREG(mode):
        _copy_file(source, destination)
    else:
        raise Refused("fs/copy only supports regular files, directories, and symlinks")


def _copy_file(source: str, destination: str) -> None:
    # Opening the destination empties it, so this must be known before (also through a hard link).
    if os.path.exists(destination) and os.path.samefile(source, destination):
        raise Refused(f"fs/copy cannot copy `{source}` onto itself")
    import shutil  # brings compression along, which starting the server need not wait for

    shutil.copyfile(source, destination)
    shutil.copymode(source, destination)


def _copy_tree(source: str, destination: str, *, recursive: bool) -> None:
    if not recursive:
        raise Refused("fs/copy requires recursive: true when sourcePath is a directory")
    inner = os.path.realpath(destination)
    outer = os.path.realpath(source)
    if inner == outer or inner.startswith(outer.rstrip("/") + "/"):
        raise Refused("fs/copy cannot copy a directory to itself or one of its descendants")
    os.makedirs(destination, exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            target = os.path.join(destination, entry.name)
            if entry.is_dir(follow_symlinks=False):
                _copy_tree(entry.path, target, recursive=True)
            elif entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)
            elif entry.is_file(follow_symlinks=False):
                _copy_file(entry.path, target)
