"""A user's feedback as an archive that can be passed on: words, the thread's log, the set-up.

Owns what is in the archive and how it is written: private, and never over another file. Sends
nothing anywhere.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from treadle.domain.records import ThreadCreated
from treadle.engine.services.errors import FeedbackFailed, Refused, ThreadNotFound
from treadle.engine.services.threads import Threads
from treadle.kit.clock import Clock, iso_millis
from treadle.kit.mint import new_id

MAX_FILES = 100
"""Files that a client may add to one archive."""


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says, and what is to lie beside it."""

    classification: str
    reason: str | None
    thread_id: str | None
    with_logs: bool
    files: tuple[str, ...] = ()
    tags: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Saved(msgspec.Struct, frozen=True):
    """An archive: where it lies, and what it is about."""

    path: str
    thread_id: str
    prompt_hash: str | None


class _Attachment(msgspec.Struct, frozen=True):
    """A member of the archive: a file's bytes, or those given."""

    name: str
    content_type: str
    source: Path | bytes


class Feedback:
    """Makes archives of feedback."""

    def __init__(
        self,
        threads: Threads,
        clock: Clock,
        *,
        examine: Callable[[], dict[str, Any]],
        enabled: Callable[[], bool],
    ) -> None:
        """Feedback on these threads.

        Args:
            threads: of which threads.
            clock: stamps the report.
            examine: what there is to say of the set-up; blocks, and tells no secret.
            enabled: whether the configuration allows it.
        """
        self._threads = threads
        self._clock = clock
        self._examine = examine
        self._enabled = enabled

    def check(self) -> None:
        """Refuse where the configuration has it switched off."""
        if not self._enabled():
            raise Refused("sending feedback is disabled by configuration: feedback.enabled")

    async def save(self, words: Words, path: str) -> Saved:
        """Write a new archive at `path`, an absolute path where nothing lies yet.

        Raises:
            Refused: the path is not absolute, or feedback is switched off.
            FeedbackFailed: a file cannot be read or written.
        """
        self.check()
        if not os.path.isabs(path):
            raise Refused("feedback savePath must be an absolute host path")
        if len(words.files) > MAX_FILES:
            raise Refused(f"feedback takes at most {MAX_FILES} extra files")
        saved = Saved(
            path,
            words.thread_id or f"no-active-thread-{new_id()}",
            await self._prompt_hash(words.thread_id),
        )
        log = await self._log(words.thread_id) if words.with_logs else None
        try:
            await asyncio.to_thread(self._write, words, saved, log)
        except FileExistsError:
            raise FeedbackFailed(
                "failed to save feedback: feedback save path already exists"
            ) from None
        except OSError as error:
            what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            raise FeedbackFailed(f"failed to save feedback: {what}") from error
        return saved

    async def _prompt_hash(self, thread_id: str | None) -> str | None:
        """A digest of the instructions that the thread runs by, however they are broken up."""
        if thread_id is None:
            return None
        loaded = self._threads.get(thread_id)
        if loaded is not None:
            text = loaded.agent.base_instructions
        else:
            first = await self._first(thread_id)
            text = first.base_instructions if first is not None else None
        return hashlib.sha256(" ".join(text.split()).encode()).hexdigest() if text else None

    async def _first(self, thread_id: str) -> ThreadCreated | None:
        try:
            records = await self._threads.records(thread_id)
        except ThreadNotFound:
            return None
        first = records[0] if records else None
        return first if isinstance(first, ThreadCreated) else None

    async def _log(self, thread_id: str | None) -> _Attachment | None:
        """The thread's log: its file as it lies there, or the records of a store without files."""
        if thread_id is None:
            return None
        try:
            records = await self._threads.records(thread_id)
            path = (await self._threads.read(thread_id)).path
        except ThreadNotFound:
            return None
        if path is not None and await asyncio.to_thread(os.path.isfile, path):
            return _Attachment(os.path.basename(path), "text/plain", Path(path))
        lines = msgspec.json.Encoder().encode_lines(records)
        return _Attachment(f"{thread_id}.jsonl", "text/plain", lines)

    def _write(self, words: Words, saved: Saved, log: _Attachment | None) -> None:
        """Make the archive; nothing is left of one that could not be finished."""
        attachments = [*self._attachments(words, log)]
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(saved.path, flags, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                self._fill(file, self._report(words, saved), attachments)
        except BaseException:
            os.unlink(saved.path)
            raise

    def _fill(
        self, file: IO[bytes], report: dict[str, Any], attachments: list[_Attachment]
    ) -> None:
        from zipfile import ZIP_DEFLATED, ZipFile

        with ZipFile(file, "w", ZIP_DEFLATED, strict_timestamps=False) as archive:
            archive.writestr("report.json", _encoded(report))
            entries = [*_entries(attachments)]
            for each, entry in zip(attachments, entries, strict=True):
                if isinstance(each.source, bytes):
                    archive.writestr(entry["entry"], each.source)
                else:
                    archive.write(each.source, entry["entry"])
            archive.writestr("manifest.json", _encoded(entries))

    def _attachments(self, words: Words, log: _Attachment | None) -> Iterator[_Attachment]:
        if words.with_logs:
            setup = _encoded(self._examine())
            yield _Attachment("treadle-doctor-report.json", "application/json", setup)
        if log is not None:
            yield log
        for name in words.files:
            if not os.path.isfile(name):
                raise FileNotFoundError(2, "no such file", name)
            yield _Attachment(os.path.basename(name), "application/octet-stream", Path(name))

    def _report(self, words: Words, saved: Saved) -> dict[str, Any]:
        return {
            "classification": words.classification,
            "reason": words.reason,
            "threadId": saved.thread_id,
            "promptHash": saved.prompt_hash,
            "tags": words.tags,
            "createdAt": iso_millis(self._clock.now()),
        }


def _entries(attachments: list[_Attachment]) -> Iterator[dict[str, str]]:
    """The manifest: each member's place in the archive, its name and its kind."""
    for number, each in enumerate(attachments):
        place = f"attachments/{number:04}/{each.name}"
        yield {"entry": place, "filename": each.name, "contentType": each.content_type}


def _encoded(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
