"""What a stored log means for the thread that is loaded from it."""

from typing import Any

from treadle.domain import history
from treadle.domain.events import Noticed
from treadle.domain.items import AgentMessage
from treadle.domain.records import ModelItem, ThreadRecord, TurnEnded
from treadle.domain.turns import TokenUsage, Turn
from treadle.engine.agent import prompt
from treadle.engine.services.loaded_thread import LoadedThread


def mend(past: history.LogFold, records: list[ThreadRecord], now: float) -> list[ThreadRecord]:
    """Records that close the turn which a log leaves open, its process gone or its fork made.

    Args:
        past: what `records` add up to.
        records: the log.
        now: unix seconds.
    """
    turns = past.turns()
    if not turns or turns[-1].completed_at is not None or turns[-1].status != "interrupted":
        return []
    turn = turns[-1]
    return [
        *_unkept(turn, records, now),
        ModelItem(at=now, item=prompt.message("user", prompt.TURN_ABORTED), turn_id=turn.id),
        TurnEnded(
            at=now,
            turn_id=turn.id,
            status="interrupted",
            reason="recovery",
            started_at=turn.started_at,
            completed_at=int(now),
        ),
    ]


def _unkept(turn: Turn, records: list[ThreadRecord], now: float) -> list[ThreadRecord]:
    """What the agent was heard to say in a turn that ended before its answer did."""
    kept = {
        part.get("text")
        for record in records
        if isinstance(record, ModelItem) and record.content.get("role") == "assistant"
        for part in record.content.get("content") or ()
    }
    said = [item.text for item in turn.items if isinstance(item, AgentMessage)]
    return [
        ModelItem(at=now, item=_assistant_said(text), turn_id=turn.id)
        for text in said
        if text not in kept
    ]


def _assistant_said(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content}


def restore(
    thread: LoadedThread, records: list[ThreadRecord], past: history.LogFold | None = None
) -> list[Turn]:
    """Give a loaded thread what its log adds up to; returns the log's turns.

    Args:
        thread: which thread.
        records: the log.
        past: what they add up to, where that is known already.
    """
    past = past or history.LogFold(records)
    agent = thread.agent
    agent.known = past.context()
    agent.told = past.told
    usage = past.usage.usage if past.usage is not None else None
    agent.usage = usage.total if usage else TokenUsage()
    agent.context_tokens = usage.last.total_tokens if usage else 0
    agent.window = past.compactions
    thread.log.recall(records)
    turns = past.turns()
    thread.last_turn_was(failed=bool(turns) and turns[-1].status == "failed")
    return turns


def raw_item(thread_id: str, record: ModelItem) -> Noticed:
    """The notification of an item of the model's context."""
    params = {"threadId": thread_id, "turnId": record.turn_id or "", "item": record.item}
    return Noticed(thread_id=thread_id, method="rawResponseItem/completed", params=params)
