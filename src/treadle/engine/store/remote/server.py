"""The reference server of remote threads: gRPC in front of a database of records.

Owns the translation of requests and refusals. Has no login: who reaches it, reads and writes all
threads. Knows nothing of what records mean.
"""

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import msgspec

from treadle.engine.store.remote import thread_store_pb2 as pb
from treadle.engine.store.remote.database import Database, Overloaded
from treadle.engine.store.remote.leases import Holder, LeaseKey
from treadle.engine.store.remote.methods import MAX_MESSAGE_BYTES, METHODS, SERVICE, portions
from treadle.engine.store.remote.thread_records import Batch, ThreadRecords
from treadle.engine.store.thread_store import (
    InvalidQuery,
    StorageFailed,
    ThreadInfo,
    ThreadIsArchived,
    ThreadNotFound,
    ThreadPatch,
    ThreadQuery,
    WriterConflict,
)
from treadle.kit.clock import Clock

_grpc: Any = grpc  # its stubs leave most of the server's half unknown
logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

LEASE_SECONDS = 15.0
"""How long a silent writer keeps its thread; clients say a word every third of this."""
GRACE_SECONDS = 2.0
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a rival
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (ThreadNotFound, grpc.StatusCode.NOT_FOUND),
    (ThreadIsArchived, grpc.StatusCode.FAILED_PRECONDITION),
    (WriterConflict, grpc.StatusCode.ABORTED),
    (InvalidQuery, grpc.StatusCode.INVALID_ARGUMENT),
    (msgspec.MsgspecError, grpc.StatusCode.INVALID_ARGUMENT),
    (StorageFailed, grpc.StatusCode.INTERNAL),
)


class Server:
    """A server that listens; made by `serve`."""

    def __init__(self, server: grpc.aio.Server, threads: ThreadRecords, address: str) -> None:
        self._server = server
        self._threads = threads
        self.address = address
        """Where it listens, HOST:PORT."""

    async def stop(self) -> None:
        """Let running requests end, then close the database; idempotent."""
        await self._server.stop(GRACE_SECONDS)
        await self._threads.close()


async def serve(
    path: Path, listen: str, clock: Clock, lease_seconds: float = LEASE_SECONDS
) -> Server:
    """Serve the database at `path` on HOST:PORT; port 0 picks a free one.

    Raises:
        StorageFailed: the database or the address cannot be used; the text says what to do.
    """
    database = Database(path)
    threads = ThreadRecords(database, clock, lease_seconds)
    server: grpc.aio.Server = _grpc.aio.server(options=OPTIONS)
    handlers = {name: _handler(name, work) for name, work in _Service(threads).methods.items()}
    service = _grpc.method_handlers_generic_handler(SERVICE, handlers)
    cast("Any", server).add_generic_rpc_handlers((service,))
    try:
        port = server.add_insecure_port(listen)
        await server.start()
    except RuntimeError as error:
        await threads.close()
        raise StorageFailed(
            f"cannot listen on {listen}: the address is in use or not of this machine"
        ) from error
    return Server(server, threads, f"{listen.rpartition(':')[0]}:{port}")


class _Service:
    """Messages in, messages out."""

    def __init__(self, threads: ThreadRecords) -> None:
        self._threads = threads
        self.methods: dict[str, Callable[[Any], Any]] = {
            "Create": self._create,
            "Open": self._open,
            "Append": self._append,
            "Renew": self._renew,
            "Release": self._release,
            "Read": self._read,
            "ReadRecords": self._read_records,
            "ListThreads": self._list,
            "Update": self._update,
            "Archive": self._archive,
            "Unarchive": self._unarchive,
            "Delete": self._delete,
            "Link": self._link,
            "Descendants": self._descendants,
            "MayMention": self._may_mention,
        }

    async def _create(self, request: pb.CreateRequest) -> pb.Lease:
        epoch = await self._threads.create(request.thread_id, _holder(request.holder))
        return pb.Lease(epoch=epoch, seconds=self._threads.lease_seconds)

    async def _open(self, request: pb.OpenRequest) -> AsyncIterator[pb.OpenReply]:
        holder = _holder(request.holder)
        epoch = await self._threads.open(request.thread_id, holder, by_force=request.take_over)
        yield pb.OpenReply(lease=pb.Lease(epoch=epoch, seconds=self._threads.lease_seconds))
        # Read after the commit that fenced everybody else: nothing can be added meanwhile.
        for portion in portions(await self._threads.log(request.thread_id)):
            yield pb.OpenReply(records=portion)

    async def _append(self, request: pb.AppendRequest) -> pb.Done:
        batch = Batch(
            lease=_key(request.lease),
            sequence=request.sequence,
            bodies=list(request.records),
            info=msgspec.json.decode(request.info, type=ThreadInfo) if request.info else None,
            preview=request.preview,
            updated_at=request.updated_at,
        )
        await self._threads.append(batch)
        return pb.Done()

    async def _renew(self, request: pb.RenewRequest) -> pb.RenewReply:
        lost = await self._threads.renew([_key(lease) for lease in request.leases])
        return pb.RenewReply(lost=[pb.LostLease(thread_id=t, reason=r) for t, r in lost])

    async def _release(self, request: pb.LeaseKey) -> pb.Done:
        await self._threads.release(_key(request))
        return pb.Done()

    async def _read(self, request: pb.ThreadRequest) -> pb.Info:
        return _info(await self._threads.read(request.thread_id))

    async def _read_records(self, request: pb.ThreadRequest) -> AsyncIterator[pb.Records]:
        for portion in portions(await self._threads.log(request.thread_id)):
            yield pb.Records(records=portion)

    async def _list(self, request: pb.ListRequest) -> pb.Page:
        page = await self._threads.page(msgspec.json.decode(request.query, type=ThreadQuery))
        return pb.Page(page=msgspec.json.encode(page))

    async def _update(self, request: pb.UpdateRequest) -> pb.Info:
        patch = msgspec.json.decode(request.patch, type=ThreadPatch)
        return _info(await self._threads.update(request.thread_id, patch))

    async def _archive(self, request: pb.ThreadRequest) -> pb.Done:
        await self._threads.archive(request.thread_id, request.request_id)
        return pb.Done()

    async def _unarchive(self, request: pb.ThreadRequest) -> pb.Info:
        return _info(await self._threads.unarchive(request.thread_id, request.request_id))

    async def _delete(self, request: pb.ThreadRequest) -> pb.Done:
        await self._threads.delete(request.thread_id, request.request_id)
        return pb.Done()

    async def _link(self, request: pb.LinkRequest) -> pb.Done:
        await self._threads.link(request.parent_id, request.child_id)
        return pb.Done()

    async def _descendants(self, request: pb.ThreadRequest) -> pb.ThreadIds:
        return pb.ThreadIds(thread_ids=await self._threads.descendants(request.thread_id))

    async def _may_mention(self, request: pb.MentionRequest) -> pb.Mention:
        possible = await self._threads.may_mention(request.thread_id, request.text)
        return pb.Mention(possible=possible)


def _handler(name: str, work: Callable[[Any], Any]) -> Any:
    method = METHODS[name]
    codecs: Any = {
        "request_deserializer": method.request.FromString,
        "response_serializer": method.reply.SerializeToString,
    }

    async def answer(request: Any, context: Context) -> Any:
        try:
            return await work(request)
        except Exception as error:  # noqa: BLE001 - one place turns every failure into a status
            await _refuse(name, context, error)

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for reply in work(request):
                yield reply
        except Exception as error:  # noqa: BLE001 - as above
            await _refuse(name, context, error)

    if method.streams:
        return _grpc.unary_stream_rpc_method_handler(stream, **codecs)
    return _grpc.unary_unary_rpc_method_handler(answer, **codecs)


async def _refuse(name: str, context: Context, error: Exception) -> None:
    if isinstance(error, Overloaded):
        await context.abort(grpc.StatusCode.UNAVAILABLE, "too much waits; send it again")
    for kind, code in _CODES:
        if isinstance(error, kind):
            if code is grpc.StatusCode.INTERNAL:
                logger.error("%s: %s", name, error)
            await context.abort(code, str(error))
    logger.error("%s failed", name, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log says why")


def _holder(holder: pb.Holder) -> Holder:
    return Holder(holder.key, holder.owner, holder.host)


def _key(lease: pb.LeaseKey) -> LeaseKey:
    return LeaseKey(lease.thread_id, lease.key, lease.epoch)


def _info(info: ThreadInfo) -> pb.Info:
    return pb.Info(info=msgspec.json.encode(info))
