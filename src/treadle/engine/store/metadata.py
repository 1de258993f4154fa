"""A thread's metadata: how it begins, and how patches change it, for every store alike."""

import msgspec

from treadle.domain.records import ThreadCreated
from treadle.engine.store.thread_store import ThreadInfo, ThreadPatch


def fresh_info(created: ThreadCreated, now: float, path: str | None) -> ThreadInfo:
    """Metadata of a thread of which only its beginning is known; `now` where that has no time."""
    at = created.at or now
    return ThreadInfo(
        thread_id=created.thread_id,
        created=created,
        path=path,
        created_at=at,
        updated_at=at,
        recency_at=at,
        git=created.git,
    )


def apply_patch(info: ThreadInfo, patch: ThreadPatch) -> ThreadInfo:
    """`info` with the patch's set fields; recency only ever advances."""
    fields = {
        name: value
        for name in ThreadPatch.__struct_fields__
        if (value := getattr(patch, name)) is not msgspec.UNSET
    }
    if "recency_at" in fields:
        fields["recency_at"] = max(fields["recency_at"], info.recency_at)
    return msgspec.structs.replace(info, **fields)
