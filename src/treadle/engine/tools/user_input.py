"""`request_user_input`: the agent asks the user, and goes on with the answers. No item."""

from typing import Any

import msgspec

from treadle.domain.questions import FormAnswer, FormQuestion
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.tool import NotAnswered, ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.tool_specs import REQUEST_USER_INPUT


class _Option(msgspec.Struct):
    label: str
    description: str = ""


class _Question(msgspec.Struct):
    id: str
    header: str
    question: str
    options: list[_Option] | None = None


class _FormArguments(msgspec.Struct):
    questions: list[_Question]


class RequestUserInput:
    """The tool that asks the user; in default mode only where that is switched on."""

    name = "request_user_input"

    def __init__(self, *, in_default_mode: bool = False) -> None:
        """`in_default_mode` lets it ask outside plan mode too."""
        self._in_default_mode = in_default_mode

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return REQUEST_USER_INPUT

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Ask, and give the model the answers as JSON; no answer is an empty one."""
        mode = context.settings.collaboration_mode or {}
        planning = mode.get("mode") == "plan"
        if not planning and not self._in_default_mode:
            return ToolOutput(
                text="request_user_input is unavailable in Default mode", success=False
            )
        try:
            wanted = read_arguments(call.arguments, _FormArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        question = FormQuestion(
            thread_id=context.thread_id,
            turn_id=context.turn_id,
            item_id=call.call_id,
            asked_at_ms=int(context.clock.now() * 1000),
            questions=tuple(_shown(entry) for entry in wanted.questions),
            blocking=planning,
        )
        try:
            answer = await context.asker.ask(question)
        except NotAnswered:
            answer = FormAnswer(answers={})
        return ToolOutput(text=msgspec.json.encode(answer).decode())


def _shown(question: _Question) -> dict[str, Any]:
    options = None if question.options is None else msgspec.to_builtins(question.options)
    return {
        "id": question.id,
        "header": question.header,
        "question": question.question,
        "isOther": True,
        "isSecret": False,
        "options": options,
    }
