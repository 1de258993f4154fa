"""What is asked of a thread that is opened, by whom, and what comes of it."""

import os
from typing import Any

import msgspec

from treadle.domain.records import UsageRecorded
from treadle.domain.turns import Turn
from treadle.engine.services.loaded_thread import LoadedThread
from treadle.engine.services.planning import Overrides, ThreadPlan


class Client(msgspec.Struct, frozen=True):
    """Who asks: its name as the originator, and the user agent that providers see."""

    originator: str
    user_agent: str


class NewThread(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks of a new thread."""

    overrides: Overrides
    client: Client
    ephemeral: bool = False
    thread_source: str | None = None
    dynamic_tools: list[dict[str, Any]] | None = None
    raw_items: bool = False
    """Whether its subscribers hear every item of the model's context."""


class Opened(msgspec.Struct, frozen=True):
    """A thread in memory, its plan, and (after a resume) its turns."""

    thread: LoadedThread
    plan: ThreadPlan
    turns: list[Turn]
    usage: UsageRecorded | None = None
    """The token counts last recorded, of a thread that comes from its log."""
    warnings: tuple[str, ...] = ()
    last_seq: int = 0
    """Number of the last event that `turns` are sure to show."""


def same_place(known: str | None, path: str) -> bool:
    """Whether a thread's file is the one that a path leads to."""
    return known is not None and os.path.realpath(known) == os.path.realpath(path)
