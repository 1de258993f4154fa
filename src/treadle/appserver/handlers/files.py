"""`fs/*`: from parameters to the file services and back."""

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

from treadle.appserver.context import Context
from treadle.appserver.handlers import base64_input
from treadle.engine.services import files
from treadle.engine.services.file_watches import FileWatches
from treadle.wire.protocol import files as proto
from treadle.wire.protocol.errors import INTERNAL, RpcError, invalid_request
from treadle.wire.protocol.threads import Empty

T = TypeVar("T")


async def read_file(context: Context, params: proto.PathParams) -> proto.FileContent:
    """The content of a file."""
    del context
    path = absolute(params.path)
    return proto.FileContent(data_base64=await _work(lambda: files.read_file(path)))


async def write_file(context: Context, params: proto.WriteFileParams) -> Empty:
    """Replace the content of a file."""
    del context
    path = absolute(params.path)
    try:
        data = base64_input.decode(params.data_base64)
    except ValueError as error:
        text = f"fs/writeFile requires valid base64 dataBase64: {error}"
        raise invalid_request(text) from None
    await _work(lambda: files.write_file(path, data))
    return Empty()


async def create_directory(context: Context, params: proto.CreateDirectoryParams) -> Empty:
    """Make a folder."""
    del context
    path = absolute(params.path)
    recursive = params.recursive is not False
    await _work(lambda: files.create_directory(path, recursive=recursive))
    return Empty()


async def get_metadata(context: Context, params: proto.PathParams) -> proto.Metadata:
    """What a path is."""
    del context
    path = absolute(params.path)
    found = await _work(lambda: files.facts(path))
    return proto.Metadata(
        is_directory=found.is_directory,
        is_file=found.is_file,
        is_symlink=found.is_symlink,
        created_at_ms=found.created_at_ms,
        modified_at_ms=found.modified_at_ms,
    )


async def read_directory(context: Context, params: proto.PathParams) -> proto.Directory:
    """The names in a folder."""
    del context
    path = absolute(params.path)
    found = await _work(lambda: files.list_directory(path))
    return proto.Directory(
        entries=[
            proto.DirectoryEntry(file_name=name, is_directory=is_directory, is_file=is_file)
            for name, is_directory, is_file in found
        ]
    )


async def remove(context: Context, params: proto.RemoveParams) -> Empty:
    """Remove a path."""
    del context
    path = absolute(params.path)
    recursive = params.recursive is not False
    force = params.force is not False
    await _work(lambda: files.remove(path, recursive=recursive, force=force))
    return Empty()


async def copy(context: Context, params: proto.CopyParams) -> Empty:
    """Copy a path."""
    del context
    source, destination = absolute(params.source_path), absolute(params.destination_path)
    await _work(lambda: files.copy(source, destination, recursive=params.recursive))
    return Empty()


async def watch(context: Context, params: proto.WatchParams) -> proto.WatchResult:
    """Tell the caller of changes from now on."""
    watches = _watches(context)
    path = await watches.watch(absolute(params.path), params.watch_id)
    return proto.WatchResult(path=path)


async def unwatch(context: Context, params: proto.UnwatchParams) -> Empty:
    """Tell no more."""
    await _watches(context).unwatch(params.watch_id)
    return Empty()


def absolute(path: str) -> str:
    """The path itself; raises RpcError for a relative one, in the references' words."""
    if not os.path.isabs(path):
        raise invalid_request("Invalid request: AbsolutePathBuf deserialized without a base path")
    return path


def _watches(context: Context) -> FileWatches:
    def tell(watch_id: str, paths: list[str]) -> None:
        changed = proto.Changed(watch_id=watch_id, changed_paths=paths)
        context.services.subscriptions.notify(context.session, "fs/changed", changed)

    return context.session.holding(FileWatches, lambda: FileWatches(tell))


async def _work(deed: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(deed)
    except OSError as error:
        if error.errno is None:
            raise
        text = f"{os.strerror(error.errno)} (os error {error.errno})"
        raise RpcError(INTERNAL, text) from error
    except ValueError as error:  # a NUL in a path
        raise invalid_request(f"Invalid request: {error}") from error
