"""Records as bytes: one JSON object per record, tagged by its kind.

Owns the form that travels to a server and lies in its database, and what of a log is read back.
Knows no connection.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from treadle.domain import history
from treadle.domain.items import ThreadItem
from treadle.domain.records import ItemDone, ThreadRecord, TurnsDropped
from treadle.engine.store.thread_store import StorageFailed

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ThreadRecord)


def encode_record(record: ThreadRecord) -> bytes:
    """The record's bytes."""
    return _encoder.encode(record)


def decode_log(parts: Iterable[bytes]) -> list[ThreadRecord]:
    """The log that stored records amount to: turns that were taken back are left out.

    Raises:
        StorageFailed: a record cannot be read, for example because a newer release wrote it.
    """
    records: list[ThreadRecord] = []
    for part in parts:
        record = _decode_record(part)
        if isinstance(record, TurnsDropped):
            records = history.drop_turns(records, record.num_turns)
        else:
            records.append(record)
    return records


def _decode_record(part: bytes) -> ThreadRecord:
    try:
        record: ThreadRecord = _decoder.decode(part)
    except msgspec.MsgspecError as error:
        raise StorageFailed(
            f"a stored record cannot be read ({error}); a newer release may have written it"
        ) from error
    if isinstance(record, ItemDone):
        record.item = _known_item(record.item)
    return record


def _known_item(item: Any) -> Any:
    """Our own kind of item as its struct; what another program made stays as it is."""
    try:
        return msgspec.convert(item, ThreadItem)
    except msgspec.ValidationError:
        return item
