"""Threads that a server keeps: no files here, any machine may go on with them.

Ties connection, leases and writers together into a ThreadStore. Readers in this process see what
was appended here, since it is sent before they ask. Loads gRPC; import it when it is configured.
"""

import asyncio
import logging
import os
import socket

import msgspec

from treadle.domain.records import ThreadCreated, ThreadRecord
from treadle.engine.store.remote import thread_store_pb2 as pb
from treadle.engine.store.remote.codec import decode_log
from treadle.engine.store.remote.link import PATIENCE_SECONDS, Link
from treadle.engine.store.remote.writer import RemoteThreadWriter
from treadle.engine.store.thread_store import (
    StorageFailed,
    StoreError,
    ThreadInfo,
    ThreadPage,
    ThreadPatch,
    ThreadQuery,
    ThreadWriter,
    Unsupported,
)
from treadle.kit.clock import Clock
from treadle.kit.mint import new_id
from treadle.kit.tasks import TaskScope

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3
"""A writer may miss two in a row."""


class RemoteThreadStore:
    """A ThreadStore behind a connection."""

    def __init__(
        self, endpoint: str, clock: Clock, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Use the server at `endpoint`; nothing is sent before the first call.

        Args:
            endpoint: see `Link`.
            clock: stamps what carries no time of its own.
            patience_seconds: how long a call is repeated while the server does not answer.

        Raises:
            StorageFailed: the endpoint is no address.
        """
        self._link = Link(endpoint, clock, patience_seconds)
        self._clock = clock
        self._writers: dict[str, RemoteThreadWriter] = {}
        self._scope = TaskScope("remote thread store")
        self._keeper: asyncio.Task[None] | None = None
        self._lease_seconds = 0.0
        self._closed = False

    @property
    def has_files(self) -> bool:
        """False: threads here have no path."""
        return False

    async def create(self, created: ThreadCreated) -> ThreadWriter:
        """Reserve a thread on the server; see `ThreadStore.create`."""
        thread_id, holder = created.thread_id, _holder()
        request = pb.CreateRequest(thread_id=thread_id, holder=holder)
        lease = await self._link.call("Create", request, thread_id=thread_id)
        return self._writer(thread_id, holder, lease, created)

    async def open(self, thread_id: str) -> tuple[ThreadWriter, list[ThreadRecord]]:
        """Take ownership and read the log; see `ThreadStore.open`."""
        return await self._open(thread_id, by_force=False)

    async def take_over(self, thread_id: str) -> tuple[ThreadWriter, list[ThreadRecord]]:
        """As `open`, even from a writer that is alive: what that one sends later is refused."""
        return await self._open(thread_id, by_force=True)

    async def read(self, thread_id: str) -> ThreadInfo:
        """Metadata of a stored thread; raises ThreadNotFound."""
        await self._show(thread_id)
        request = pb.ThreadRequest(thread_id=thread_id)
        return _info(await self._link.call("Read", request, thread_id=thread_id))

    async def read_records(self, thread_id: str) -> list[ThreadRecord]:
        """The whole log without taking ownership; raises ThreadNotFound, StorageFailed."""
        await self._show(thread_id)
        request = pb.ThreadRequest(thread_id=thread_id)
        replies = await self._link.collect("ReadRecords", request, thread_id=thread_id)
        return decode_log(body for reply in replies for body in reply.records)

    async def list_threads(self, query: ThreadQuery) -> ThreadPage:
        """One page; see `ThreadStore.list_threads`."""
        for thread_id in list(self._writers):
            await self._show(thread_id)
        request = pb.ListRequest(query=msgspec.json.encode(query))
        reply = await self._link.call("ListThreads", request)
        return msgspec.json.decode(reply.page, type=ThreadPage)

    async def update(self, thread_id: str, patch: ThreadPatch) -> ThreadInfo:
        """Change metadata; raises ThreadNotFound."""
        await self._show(thread_id)
        request = pb.UpdateRequest(thread_id=thread_id, patch=msgspec.json.encode(patch))
        return _info(await self._link.call("Update", request, thread_id=thread_id))

    async def archive(self, thread_id: str) -> None:
        """Mark as archived; raises ThreadNotFound, WriterConflict."""
        await self._show(thread_id)
        await self._link.call("Archive", _change(thread_id), thread_id=thread_id)

    async def unarchive(self, thread_id: str) -> ThreadInfo:
        """Bring back; raises ThreadNotFound when it is not archived."""
        return _info(await self._link.call("Unarchive", _change(thread_id), thread_id=thread_id))

    async def delete(self, thread_id: str) -> None:
        """Remove for good; raises ThreadNotFound, WriterConflict."""
        await self._show(thread_id)
        await self._link.call("Delete", _change(thread_id), thread_id=thread_id)

    async def adopt(self, path: str) -> str:
        """There are no files here."""
        raise Unsupported(f"threads of a server have no files; {path} cannot be opened")

    async def link(self, parent_id: str, child_id: str) -> None:
        """Remember a spawn edge."""
        request = pb.LinkRequest(parent_id=parent_id, child_id=child_id)
        await self._link.call("Link", request, thread_id=parent_id)

    async def descendants(self, thread_id: str) -> list[str]:
        """All threads below this one, level by level."""
        request = pb.ThreadRequest(thread_id=thread_id)
        reply = await self._link.call("Descendants", request, thread_id=thread_id)
        return list(reply.thread_ids)

    async def may_mention(self, thread_id: str, text: str) -> bool:
        """Whether the log may contain `text`; the server looks. Raises ThreadNotFound."""
        await self._show(thread_id)
        request = pb.MentionRequest(thread_id=thread_id, text=text)
        reply = await self._link.call("MayMention", request, thread_id=thread_id)
        return reply.possible

    async def close(self) -> None:
        """Flush and release everything; idempotent."""
        if self._closed:
            return
        self._closed = True
        failure: StoreError | None = None
        for writer in list(self._writers.values()):
            try:
                await writer.close()
            except StoreError as error:
                failure = failure or error
        await self._scope.close()
        await self._link.close()
        if failure is not None:
            raise failure

    async def _open(
        self, thread_id: str, *, by_force: bool
    ) -> tuple[RemoteThreadWriter, list[ThreadRecord]]:
        holder = _holder()
        await self._show(thread_id)
        request = pb.OpenRequest(thread_id=thread_id, holder=holder, take_over=by_force)
        replies = await self._link.collect("Open", request, thread_id=thread_id)
        lease = next((r.lease for r in replies if r.HasField("lease")), None)
        if lease is None:
            raise StorageFailed(f"{self._link.endpoint} gave no lease: it is no thread store")
        writer = self._writer(thread_id, holder, lease, None)
        try:
            return writer, decode_log(body for reply in replies for body in reply.records)
        except StorageFailed:
            await writer.close()
            raise

    def _writer(
        self, thread_id: str, holder: pb.Holder, lease: pb.Lease, created: ThreadCreated | None
    ) -> RemoteThreadWriter:
        key = pb.LeaseKey(thread_id=thread_id, key=holder.key, epoch=lease.epoch)
        writer = RemoteThreadWriter(self._link, self._clock, key, created, self._forget)
        self._writers[thread_id] = writer
        self._lease_seconds = lease.seconds
        if self._keeper is None:
            self._keeper = self._scope.start(self._keep_leases(), "leases")
        return writer

    async def _show(self, thread_id: str) -> None:
        """Let readers see what was appended here and is not flushed yet."""
        writer = self._writers.get(thread_id)
        if writer is not None and writer.waiting:
            await writer.flush()

    def _forget(self, writer: RemoteThreadWriter) -> None:
        if self._writers.get(writer.thread_id) is writer:
            del self._writers[writer.thread_id]

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)
            writers = dict(self._writers)
            if not writers:
                continue
            request = pb.RenewRequest(leases=[writer.lease for writer in writers.values()])
            try:
                reply = await self._link.call("Renew", request, patience_seconds=0)
            except StoreError as error:
                # The server gives leases their full time again when it is back.
                logger.warning("leases were not renewed: %s", error)
                continue
            for lost in reply.lost:
                writers[lost.thread_id].lose(lost.reason)


def _holder() -> pb.Holder:
    return pb.Holder(key=new_id(), owner=f"pid {os.getpid()}", host=socket.gethostname())


def _change(thread_id: str) -> pb.ThreadRequest:
    return pb.ThreadRequest(thread_id=thread_id, request_id=new_id())


def _info(reply: pb.Info) -> ThreadInfo:
    return msgspec.json.decode(reply.info, type=ThreadInfo)
