"""Sub-agents: threads that an agent spawned, what they are up to, and how their log tells of it.

A child's own log names its parent; the parent's log says which children are open. Pure. Knows
neither who runs children nor what they may do.
"""

from collections.abc import Iterable
from typing import Any, Literal, cast

import msgspec

from treadle.domain.records import Foreign, ThreadCreated, ThreadRecord
from treadle.domain.turns import Turn

AGENT_LINE = "treadle_agent"
"""Type of the log's lines about children; other programs pass over it."""

AgentStatus = Literal[
    "pendingInit", "running", "interrupted", "completed", "errored", "shutdown", "notFound"
]

_FOR_MODELS = {"pendingInit": "pending_init", "notFound": "not_found"}

NAMES = (
    "Heddle", "Bobbin", "Shuttle", "Warp", "Weft", "Selvage", "Twill", "Jacquard", "Batten",
    "Lease", "Sley", "Shed", "Pirn", "Reed", "Tapestry", "Damask", "Brocade", "Gauze", "Serge",
    "Tweed", "Denim", "Linen", "Calico", "Velvet", "Muslin", "Chambray", "Gingham", "Madras",
    "Organza", "Percale", "Poplin", "Satin",
)  # fmt: skip
"""What children are called, for people; ids are what counts."""


class AgentState(msgspec.Struct, frozen=True):
    """What a sub-agent is up to, with its last words or the error that stopped it."""

    status: AgentStatus
    message: str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more comes of it without a new message."""
        return self.status not in ("pendingInit", "running")

    def for_people(self) -> dict[str, Any]:
        """The protocol's `CollabAgentState`."""
        return {"status": self.status, "message": self.message}

    def for_model(self) -> Any:
        """As the references tell models: a word, or an object of one member with the message."""
        if self.status in ("completed", "errored"):
            return {self.status: self.message}
        return _FOR_MODELS.get(self.status, self.status)


NOT_FOUND = AgentState("notFound")
RUNNING = AgentState("running")
PENDING = AgentState("pendingInit")


def state_after(turn: Turn) -> AgentState:
    """What an agent is up to once a turn has ended (or, of a stored log, as its last turn)."""
    if turn.status == "failed":
        return AgentState("errored", turn.error.message if turn.error else None)
    if turn.status == "interrupted":
        return AgentState("interrupted")
    if turn.status == "inProgress":
        return RUNNING
    said = [item for item in turn.items if getattr(item, "text", None) is not None]
    return AgentState("completed", said[-1].text if said else None)


def spawn_source(parent_id: str, depth: int, nickname: str) -> dict[str, Any]:
    """The `source` of a spawned thread; `depth` counts from 1 for a child of a user's thread."""
    return {
        "subAgent": {
            "thread_spawn": {
                "parent_thread_id": parent_id,
                "depth": depth,
                "agent_path": None,
                "agent_nickname": nickname,
                "agent_role": None,
            }
        }
    }


def depth_of(created: ThreadCreated) -> int:
    """How many spawns lie above a thread; 0 for one that no agent spawned."""
    source = created.source
    if not isinstance(source, dict):
        return 0
    kind = cast("dict[str, Any]", source).get("subAgent")
    spawn = cast("dict[str, Any]", kind).get("thread_spawn") if isinstance(kind, dict) else None
    return int(cast("dict[str, Any]", spawn).get("depth", 1)) if isinstance(spawn, dict) else 0


def agent_record(child_id: str, *, is_open: bool, at: float) -> Foreign:
    """The line in a parent's log that says whether a child is open from here on."""
    return Foreign(at=at, type=AGENT_LINE, payload={"child": child_id, "open": is_open})


class OpenAgents:
    """The open children of a growing log, oldest first: add records in order."""

    def __init__(self, records: Iterable[ThreadRecord] = ()) -> None:
        self._open: dict[str, bool] = {}
        for record in records:
            self.add(record)

    def add(self, record: ThreadRecord) -> None:
        """Take the next record; those that say nothing about children are passed over."""
        if isinstance(record, Foreign) and record.type == AGENT_LINE:
            line = cast("dict[str, Any]", record.payload or {})
            self._open[str(line.get("child", ""))] = bool(line.get("open"))

    @property
    def ids(self) -> list[str]:
        """Ids of the open children."""
        return [child_id for child_id, is_open in self._open.items() if is_open]

    @property
    def count_spawned(self) -> int:
        """How many children there ever were."""
        return len(self._open)


def finished_note(child_id: str, state: AgentState) -> dict[str, Any]:
    """How a parent's model hears that a child has come to an end (frame of the references)."""
    return {"agent_path": child_id, "status": state.for_model()}
