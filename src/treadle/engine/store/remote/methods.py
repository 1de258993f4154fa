"""The methods of the wire definition: their names, messages and sizes, for both ends.

Loads the protobuf runtime; import it when a remote store is really used.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from google.protobuf.message import Message

from treadle.engine.store.remote import thread_store_pb2 as pb

SERVICE = "treadle.thread_store.v1.ThreadStore"

MAX_MESSAGE_BYTES = 64 << 20
"""Largest message that either end takes; gRPC's own bound of 4 MiB is below one large image."""
MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - (1 << 20)
BATCH_BYTES = 2 << 20
"""Records are sent and read in portions of about this size."""


class Method(NamedTuple):
    """One method: what it takes and gives; `streams` when it gives several replies."""

    request: type[Message]
    reply: type[Message]
    streams: bool = False


METHODS: dict[str, Method] = {
    "Create": Method(pb.CreateRequest, pb.Lease),
    "Open": Method(pb.OpenRequest, pb.OpenReply, streams=True),
    "Append": Method(pb.AppendRequest, pb.Done),
    "Renew": Method(pb.RenewRequest, pb.RenewReply),
    "Release": Method(pb.LeaseKey, pb.Done),
    "Read": Method(pb.ThreadRequest, pb.Info),
    "ReadRecords": Method(pb.ThreadRequest, pb.Records, streams=True),
    "ListThreads": Method(pb.ListRequest, pb.Page),
    "Update": Method(pb.UpdateRequest, pb.Info),
    "Archive": Method(pb.ThreadRequest, pb.Done),
    "Unarchive": Method(pb.ThreadRequest, pb.Info),
    "Delete": Method(pb.ThreadRequest, pb.Done),
    "Link": Method(pb.LinkRequest, pb.Done),
    "Descendants": Method(pb.ThreadRequest, pb.ThreadIds),
    "MayMention": Method(pb.MentionRequest, pb.Mention),
}


def portions(bodies: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Records in portions that fit a message; nothing for no records."""
    portion: list[bytes] = []
    size = 0
    for body in bodies:
        if portion and size + len(body) > BATCH_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(body)
        size += len(body)
    if portion:
        yield portion
