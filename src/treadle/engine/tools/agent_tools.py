"""The tools with which an agent commands sub-agents: spawn, send, wait, close, resume.

Reads the model's arguments, shows each deed as an item and words the answer (forms of 0.129.0 and
0.169.0). Who runs agents, and how many there may be, is behind the port.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from treadle.domain.agents import NOT_FOUND, PENDING
from treadle.domain.ids import is_uuid
from treadle.domain.items import (
    CollabAgentToolCall,
    ImageInput,
    LocalImageInput,
    MentionInput,
    SkillInput,
    TextInput,
    UserInput,
    input_text,
)
from treadle.engine.tools import agent_specs
from treadle.engine.tools.agent_port import AgentRefused, Agents, SpawnOrder
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput, Tools
from treadle.kit.mint import new_id

NAMESPACE = "multi_agent_v1"
"""Where 0.169.0 keeps these tools; calls that name it are understood."""

DEFAULT_WAIT_MS, LEAST_WAIT_MS, MOST_WAIT_MS = 30_000, 10_000, 3_600_000

_ROLES = (None, "default")


class _Part(msgspec.Struct):
    type: str = "text"
    text: str = ""
    image_url: str = ""
    path: str = ""
    name: str = ""


class _Words(msgspec.Struct):
    message: str | None = None
    items: list[_Part] | None = None


class _Spawn(_Words):
    agent_type: str | None = None
    fork_context: bool | None = None
    model: str | None = None
    reasoning_effort: str | None = None


class _Target(msgspec.Struct):
    target: str


class _Send(_Words, kw_only=True):
    target: str
    interrupt: bool | None = None


class _Resume(msgspec.Struct):
    id: str


class _Wait(msgspec.Struct):
    targets: list[str]
    timeout_ms: float = DEFAULT_WAIT_MS


class AgentTools:
    """A thread's tools with those for sub-agents."""

    def __init__(self, tools: Tools, agents: Agents) -> None:
        """Put the agent tools, which command `agents`, behind `tools`."""
        self._tools = tools
        self._agents = agents
        self._deeds: dict[str, Callable[[ToolCall, ToolContext], Awaitable[ToolOutput]]] = {
            "spawn_agent": self._spawn,
            "send_input": self._send,
            "resume_agent": self._resume,
            "wait_agent": self._wait,
            "close_agent": self._close,
        }

    @property
    def specs(self) -> list[dict[str, Any]]:
        """How the model is told of all of them."""
        return [*self._tools.specs, *agent_specs.ALL]

    async def ready(self) -> None:
        """Wait for tools that are on their way."""
        await self._tools.ready()

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Carry out a call; what cannot be done is told to the model."""
        deed = self._deeds.get(call.name) if call.namespace in (None, NAMESPACE) else None
        if deed is None:
            return await self._tools.run(call, context)
        try:
            return await deed(call, context)
        except (BadArguments, AgentRefused) as error:
            return ToolOutput(text=str(error), success=False)

    # ------------------------------------------------------------------ the deeds

    async def _spawn(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        wanted = read_arguments(call.arguments, _Spawn)
        order = SpawnOrder(
            content=_content(wanted),
            model=wanted.model,
            effort=wanted.reasoning_effort,
            fork_context=bool(wanted.fork_context),
        )
        item = _item(call, context, "spawnAgent", prompt=input_text(order.content))
        item.model, item.reasoning_effort = wanted.model or "", wanted.reasoning_effort or "medium"
        async with _Shown(item, context):
            if wanted.agent_type not in _ROLES:
                raise AgentRefused(f"unknown agent_type '{wanted.agent_type}'")
            try:
                made = await self._agents.spawn(order)
            except AgentRefused as error:
                raise AgentRefused(f"collab spawn failed: {error}") from error
            item.receiver_thread_ids = [made.agent_id]
            item.model, item.reasoning_effort = made.model, made.effort or "medium"
            item.agents_states = {made.agent_id: PENDING.for_people()}
        self._agents.begin(made.agent_id, order)
        return _json({"agent_id": made.agent_id, "nickname": made.nickname})

    async def _send(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        wanted = read_arguments(call.arguments, _Send)
        target, content = _agent_id(wanted.target), _content(wanted)
        item = _item(call, context, "sendInput", [target], prompt=input_text(content))
        async with _Shown(item, context):
            interrupt = bool(wanted.interrupt)
            state = await self._agents.send(target, content, interrupt=interrupt)
            item.agents_states = {target: state.for_people()}
        return _json({"submission_id": new_id()})

    async def _resume(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        target = _agent_id(read_arguments(call.arguments, _Resume).id)
        item = _item(call, context, "resumeAgent", [target])
        async with _Shown(item, context):
            state = await self._agents.resume(target)
            item.agents_states = {target: state.for_people()}
        return _json({"status": state.for_model()})

    async def _wait(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        wanted = read_arguments(call.arguments, _Wait)
        if not wanted.targets:
            raise AgentRefused("agent ids must be non-empty")
        targets = [_agent_id(target) for target in wanted.targets]
        wait_ms = min(max(wanted.timeout_ms, LEAST_WAIT_MS), MOST_WAIT_MS)
        item = _item(call, context, "wait", targets)
        async with _Shown(item, context):
            states = await self._agents.wait(targets, wait_ms / 1000)
            ended = {target: state for target, state in states.items() if state.final}
            item.agents_states = {target: state.for_people() for target, state in ended.items()}
            if any(state.status in ("notFound", "errored") for state in ended.values()):
                item.status = "failed"
        status = {target: state.for_model() for target, state in ended.items()}
        return _json({"status": status, "timed_out": not ended})

    async def _close(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        target = _agent_id(read_arguments(call.arguments, _Target).target)
        item = _item(call, context, "closeAgent", [target])
        async with _Shown(item, context):
            state = await self._agents.close(target)
            item.agents_states = {target: state.for_people()}
        return _json({"previous_status": state.for_model()})


class _Shown:
    """Shows a deed as an item: begun on entry, and complete whatever became of it."""

    def __init__(self, item: CollabAgentToolCall, context: ToolContext) -> None:
        self._item = item
        self._reporter = context.reporter

    async def __aenter__(self) -> None:
        # What is told now must not change with what becomes of it.
        self._reporter.started(msgspec.structs.replace(self._item))

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, _trace: Any) -> None:
        item = self._item
        if item.status == "inProgress":
            item.status = "completed" if kind is None else "failed"
        if isinstance(error, AgentRefused) and error.unknown:
            item.agents_states = {
                target: NOT_FOUND.for_people() for target in item.receiver_thread_ids
            }
        self._reporter.completed(item)


def _item(
    call: ToolCall,
    context: ToolContext,
    tool: str,
    receivers: list[str] | None = None,
    prompt: str | None = None,
) -> CollabAgentToolCall:
    return CollabAgentToolCall(
        id=call.call_id,
        tool=tool,
        status="inProgress",
        sender_thread_id=context.thread_id,
        receiver_thread_ids=receivers or [],
        prompt=prompt,
    )


def _agent_id(text: str) -> str:
    if not is_uuid(text):
        raise AgentRefused(f"invalid agent id {text}: agents are named by the id of spawn_agent")
    return text


def _content(words: _Words) -> list[UserInput]:
    """The message as input; raises AgentRefused in the references' words."""
    if words.message is not None and words.items is not None:
        raise AgentRefused("Provide either message or items, but not both")
    if words.items is not None:
        if not words.items:
            raise AgentRefused("Items can't be empty")
        return [_input(part) for part in words.items]
    if words.message is None:
        raise AgentRefused("Provide one of: message or items")
    if not words.message.strip():
        raise AgentRefused("Empty message can't be sent to an agent")
    return [TextInput(text=words.message)]


def _input(part: _Part) -> UserInput:
    match part.type:
        case "text":
            return TextInput(text=part.text)
        case "image":
            return ImageInput(url=part.image_url)
        case "local_image":
            return LocalImageInput(path=part.path)
        case "skill":
            return SkillInput(name=part.name, path=part.path)
        case "mention":
            return MentionInput(name=part.name, path=part.path)
        case other:
            raise AgentRefused(f"unknown item type '{other}'")


def _json(value: dict[str, Any]) -> ToolOutput:
    return ToolOutput(text=msgspec.json.encode(value).decode())
