"""The tools of one thread under one roof: specs for the model, and one door to run a call.

Whatever a call brings, an answer comes out: unknown names become texts, answers are bounded. What a
tool does is its own business.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from treadle.engine.tools.tool import Tool, ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.truncate import cut_text
from treadle.kit.tracing import span

MAX_ANSWER_CHARS = 60_000
"""Above every tool's own budget; a last bound on what one call may put into the context."""


class ToolSource(Protocol):
    """Tools that come and go, such as those of servers that are still starting."""

    @property
    def specs(self) -> list[dict[str, Any]]:
        """How the model is told of those there are now."""
        ...

    def find(self, namespace: str | None, name: str) -> Tool | None:
        """The tool that a call means, if it is one of these."""
        ...

    async def ready(self) -> None:
        """Wait, within limits, for what is on its way."""
        ...


class Toolbox:
    """Tools by name."""

    def __init__(
        self,
        tools: Sequence[Tool],
        unlisted: Sequence[Tool] = (),
        sources: Sequence[ToolSource] = (),
        remembers: Callable[[], bool] = lambda: False,
    ) -> None:
        """Offer `tools`; answer calls of `unlisted` ones too, without telling of them.

        `sources` are asked for further ones with every request and call; `remembers` says whether
        the tools hold what the thread's log does not tell.

        Raises:
            ValueError: two tools have one name.
        """
        self._listed = tuple(tools)
        self._sources = tuple(sources)
        self.remembers = remembers
        self._tools: dict[str, Tool] = {}
        for tool in (*tools, *unlisted):
            if tool.name in self._tools:
                raise ValueError(f"two tools are called {tool.name}")
            self._tools[tool.name] = tool

    @property
    def specs(self) -> list[dict[str, Any]]:
        """How the model is told of them, in the order given."""
        specs = [tool.spec for tool in self._listed]
        for source in self._sources:
            specs += source.specs
        return specs

    async def ready(self) -> None:
        """Wait, within limits, for tools that are on their way; call it before a turn."""
        for source in self._sources:
            await source.ready()

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Carry out a call; an unknown tool is told to the model."""
        tool = None if call.namespace else self._tools.get(call.name)
        if tool is None:
            tool = self._find(call)
        if tool is None:
            return ToolOutput(text=f"unsupported call: {tool_name(call)}", success=False)
        with span(f"tool {tool_name(call)}", {"call.id": call.call_id}):
            return _bounded(await tool.run(call, context))

    def _find(self, call: ToolCall) -> Tool | None:
        for source in self._sources:
            tool = source.find(call.namespace, call.name)
            if tool is not None:
                return tool
        return None


def _bounded(output: ToolOutput) -> ToolOutput:
    if len(output.text) <= MAX_ANSWER_CHARS:
        return output
    return msgspec.structs.replace(output, text=cut_text(output.text, MAX_ANSWER_CHARS))


def tool_name(call: ToolCall) -> str:
    """A tool's name with its namespace, as it is told to people."""
    return f"{call.namespace}.{call.name}" if call.namespace else call.name
