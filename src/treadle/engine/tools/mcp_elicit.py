"""Questions that MCP servers put to the user while a tool runs (elicitation).

From the server's parameters to a question of the thread, and from the answer back. A policy that
forbids questions declines at once; so does silence.
"""

from collections.abc import Awaitable, Callable
from typing import cast

from treadle.domain.questions import Answer, ElicitationAnswer, ElicitationQuestion, Question
from treadle.engine.tools.mcp_approvals import may_ask
from treadle.engine.tools.mcp_link import Json
from treadle.engine.tools.tool import NotAnswered, ToolContext

FORBIDDEN = "the approval policy lets {} ask nothing"
DECLINED: Json = {"action": "decline"}


async def put(question: ElicitationQuestion, ask: Callable[[Question], Awaitable[Answer]]) -> Json:
    """Ask, and give the server its answer: `{action, content?}`."""
    try:
        answer = await ask(question)
    except NotAnswered:
        return DECLINED
    assert isinstance(answer, ElicitationAnswer)
    if answer.action != "accept":
        return {"action": answer.action}
    content: object = answer.content
    if not isinstance(content, dict):
        return {"action": "accept"}
    return {"action": "accept", "content": cast("Json", content)}


def question_from(
    params: Json, server: str, *, thread_id: str, turn_id: str = "", item_id: str = ""
) -> ElicitationQuestion:
    """The question in the parameters of `elicitation/create`."""
    return ElicitationQuestion(
        thread_id=thread_id,
        turn_id=turn_id,
        item_id=item_id,
        server=server,
        message=str(params.get("message", "")),
        requested_schema=params.get("requestedSchema"),
        url=params.get("url"),
        elicitation_id=params.get("elicitationId"),
        meta=params.get("_meta"),
    )


class TurnCaller:
    """A call that a turn makes."""

    def __init__(self, server: str, call_id: str, context: ToolContext) -> None:
        self._server = server
        self._call_id = call_id
        self._context = context

    @property
    def thread_id(self) -> str:
        """The thread that calls."""
        return self._context.thread_id

    async def elicit(self, params: Json) -> Json:
        """See `Caller.elicit`."""
        context = self._context
        question = question_from(
            params,
            self._server,
            thread_id=context.thread_id,
            turn_id=context.turn_id,
            item_id=self._call_id,
        )
        if not may_ask(context.settings):
            context.asker.declined(question, FORBIDDEN.format(self._server))
            return DECLINED
        return await put(question, context.asker.ask)
