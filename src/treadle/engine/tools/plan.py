"""`update_plan`: the agent tells what it is about to do. No item, only the plan's update."""

from typing import Any, Literal

import msgspec

from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.tool_specs import UPDATE_PLAN

_ON_THE_WIRE = {"in_progress": "inProgress"}


class _Step(msgspec.Struct):
    step: str
    status: Literal["pending", "in_progress", "completed"]


class _PlanArguments(msgspec.Struct):
    plan: list[_Step]
    explanation: str | None = None


class UpdatePlan:
    """The tool that tells the plan."""

    name = "update_plan"

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return UPDATE_PLAN

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Pass the plan on to whoever watches."""
        try:
            wanted = read_arguments(call.arguments, _PlanArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        plan: list[dict[str, Any]] = [
            {"step": entry.step, "status": _ON_THE_WIRE.get(entry.status, entry.status)}
            for entry in wanted.plan
        ]
        context.reporter.plan_updated(wanted.explanation, plan)
        return ToolOutput(text="Plan updated")
