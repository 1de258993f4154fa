"""Whether a model's call of an MCP tool runs, is asked about, or is refused.

Questions travel as elicitations, as clients expect them (0.129.0, 0.169.0). What a user allowed for
the session is remembered per tool, for the thread's life in memory.
"""

from typing import Any, Literal, cast

from treadle.domain.policy import DangerFullAccess, ExternalSandbox, Settings
from treadle.domain.questions import ElicitationAnswer, ElicitationQuestion
from treadle.engine.tools.mcp_link import Json
from treadle.engine.tools.mcp_settings import ApprovalMode
from treadle.engine.tools.tool import NotAnswered, ToolCall, ToolContext

NEVER = "MCP tool call requires approval, but approval policy is never"
REJECTED = "user rejected MCP tool call"
CANCELLED = "user cancelled MCP tool call"

Verdict = Literal["run", "ask", "refuse"]


def judge(mode: ApprovalMode, annotations: Json, settings: Settings) -> Verdict:
    """What becomes of a call.

    `approve` runs everything, `prompt` asks about everything, `writes` and `auto` spare tools that
    say they only read. Who gave an agent full access and forbade questions meant its tools too.
    """
    if mode == "approve":
        return "run"
    if mode != "prompt" and annotations.get("readOnlyHint") is True:
        return "run"
    if may_ask(settings):
        return "ask"
    trusted = isinstance(settings.sandbox, DangerFullAccess | ExternalSandbox)
    return "run" if trusted and mode != "prompt" else "refuse"


def may_ask(settings: Settings) -> bool:
    """Whether the approval policy lets MCP servers and tools ask the user."""
    policy = settings.approval_policy
    if isinstance(policy, dict):
        granular: dict[str, Any] = policy.get("granular") or {}
        return bool(granular.get("mcp_elicitations"))
    return policy != "never"


class Approvals:
    """Asks about the tool calls of one thread, and remembers what was allowed."""

    def __init__(self) -> None:
        self._allowed: set[tuple[str, str]] = set()

    async def refusal(
        self, server: str, mode: ApprovalMode, tool: Json, arguments: Json, call: ToolCall,
        context: ToolContext,
    ) -> str | None:  # fmt: skip
        """None when the call may run; else why not, in words for model and item."""
        key = (server, tool["name"])
        verdict = judge(mode, tool.get("annotations") or {}, context.settings)
        if verdict == "run" or key in self._allowed:
            return None
        if verdict == "refuse":
            return NEVER
        try:
            answer = await context.asker.ask(_question(server, tool, arguments, call, context))
        except NotAnswered as error:
            return f"MCP tool call was not approved: {error}"
        assert isinstance(answer, ElicitationAnswer)
        if answer.action != "accept":
            return REJECTED if answer.action == "decline" else CANCELLED
        if _persistence(answer.meta) in ("session", "always"):
            self._allowed.add(key)
        return None


def _persistence(meta: Any) -> Any:
    """How long an answer holds, in the words of its metadata."""
    return cast("Json", meta).get("persist") if isinstance(meta, dict) else None


def _question(
    server: str, tool: Json, arguments: Json, call: ToolCall, context: ToolContext
) -> ElicitationQuestion:
    shown = tool.get("title") or tool["name"]
    return ElicitationQuestion(
        thread_id=context.thread_id,
        turn_id=context.turn_id,
        item_id=call.call_id,
        asked_at_ms=int(context.clock.now() * 1000),
        server=server,
        message=f'Allow the {server} MCP server to run tool "{shown}"?',
        requested_schema={"type": "object", "properties": {}},
        meta={
            "codex_approval_kind": "mcp_tool_call",
            "persist": ["session"],
            "tool_name": tool["name"],
            "tool_title": tool.get("title"),
            "tool_description": tool.get("description"),
            "tool_annotations": tool.get("annotations"),
            "tool_params": arguments,
            "tool_params_display": [],
        },
    )
