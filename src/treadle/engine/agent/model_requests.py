"""What a thread's model is asked: requests made of settings, traits and context. Pure."""

from typing import Any

from treadle.engine.agent import prompt
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.model.model_client import ModelRequest


def turn_request(thread: AgentThread, turn_id: str, output_schema: Any = None) -> ModelRequest:
    """The next request of a turn: the whole context and all tools.

    Args:
        thread: whose model is asked.
        turn_id: the turn.
        output_schema: JSON schema that the answer must follow.
    """
    settings = thread.settings
    text = dict(thread.traits.text or {})
    if output_schema is not None:
        text["format"] = {
            "type": "json_schema",
            "strict": True,
            "schema": output_schema,
            "name": "codex_output_schema",
        }
    return ModelRequest(
        model=settings.model,
        input=[
            prompt.message("developer", thread.base_instructions),
            *prompt.normalise(thread.context),
        ],
        tools=thread.tools.specs,
        parallel_tool_calls=thread.traits.parallel_tool_calls,
        reasoning=_reasoning(thread),
        text=text or None,
        service_tier=settings.service_tier,
        thread_id=thread.thread_id,
        session_id=thread.session_id,
        turn_id=turn_id,
        originator=thread.originator,
        user_agent=thread.user_agent,
        window=thread.window,
        metadata=thread.request_metadata,
    )


def summary_request(
    thread: AgentThread, turn_id: str, history: list[dict[str, Any]], question: str
) -> ModelRequest:
    """The request for a summary of `history`: no tools, the question last."""
    return ModelRequest(
        model=thread.settings.model,
        input=[
            prompt.message("developer", thread.base_instructions),
            *prompt.normalise(history),
            prompt.message("user", question),
        ],
        tools=[],
        parallel_tool_calls=False,
        reasoning=_reasoning(thread),
        text=thread.traits.text,
        service_tier=thread.settings.service_tier,
        thread_id=thread.thread_id,
        session_id=thread.session_id,
        turn_id=turn_id,
        originator=thread.originator,
        user_agent=thread.user_agent,
        window=thread.window,
        request_kind="compaction",
    )


def _reasoning(thread: AgentThread) -> dict[str, Any] | None:
    reasoning = dict(thread.traits.reasoning or {})
    if thread.settings.effort is not None:
        reasoning["effort"] = thread.settings.effort
    if thread.settings.summary is not None:
        reasoning["summary"] = thread.settings.summary
    return reasoning or None
