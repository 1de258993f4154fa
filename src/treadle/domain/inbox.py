"""A thread's inbox: messages that wait for their turn, and how they lie in the thread's log.

Every change is one line of the log. A message is delivered by the log's user message that has its
id, so that whatever is killed when, it is either waiting or said, and never both.
"""

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from treadle.domain.items import Shape, UserInput, UserMessage
from treadle.domain.records import Foreign, ItemDone, ThreadRecord

INBOX_LINE = "treadle_inbox"
"""Type of the log's lines about the inbox; other programs pass over it."""

MAX_SUBMISSIONS = 100


class Submission(Shape, kw_only=True):
    """One message that waits."""

    id: str
    client_user_message_id: str
    input: list[UserInput]
    responsesapi_client_metadata: dict[str, Any] | None = None


class Inbox(Shape, kw_only=True):
    """What waits, in order; while `paused`, nothing starts by itself."""

    submissions: list[Submission] = []
    paused: bool = False

    def find(self, submission_id: str) -> Submission | None:
        """The waiting message with this id."""
        return next((each for each in self.submissions if each.id == submission_id), None)


class InboxFold:
    """The inbox of a growing log: add records in order, look at it at any time."""

    def __init__(self) -> None:
        self.inbox = Inbox()

    def add(self, record: ThreadRecord) -> None:
        """Take the next record; those that say nothing about the inbox are passed over."""
        if isinstance(record, ItemDone):
            if self.inbox.submissions and isinstance(record.item, UserMessage):
                self._remove(record.item.id)
        elif isinstance(record, Foreign) and record.type == INBOX_LINE:
            for name, value in cast("dict[str, Any]", record.payload or {}).items():
                self._change(name, value)

    def _change(self, name: str, value: Any) -> None:
        inbox = self.inbox
        match name:
            case "state":
                self.inbox = msgspec.convert(value, Inbox)
            case "add":
                inbox.submissions.append(msgspec.convert(value, Submission))
            case "update":
                changed = msgspec.convert(value, Submission)
                inbox.submissions = [
                    changed if each.id == changed.id else each for each in inbox.submissions
                ]
            case "delete":
                self._remove(str(value))
            case "order":
                places = {submission_id: at for at, submission_id in enumerate(value)}
                last = len(places)
                inbox.submissions.sort(key=lambda each: places.get(each.id, last))
            case "paused":
                inbox.paused = bool(value)
            case _:
                return

    def _remove(self, submission_id: str) -> None:
        self.inbox.submissions = [
            each for each in self.inbox.submissions if each.id != submission_id
        ]


def inbox_record(at: float, **change: Any) -> Foreign:
    """The line of a change: add, update, delete, order, paused or state."""
    return Foreign(at=at, type=INBOX_LINE, payload=msgspec.to_builtins(change))


def inbox_of(records: Iterable[ThreadRecord]) -> Inbox:
    """The inbox that a log adds up to."""
    fold = InboxFold()
    for record in records:
        fold.add(record)
    return fold.inbox
