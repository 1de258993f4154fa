"""A thread's tools, made when its first turn wants them.

A thread that is opened, read and closed again has no use for tools; loading and holding them is
what makes opening the first one slow and an idle one large. Knows nothing of the tools themselves.
"""

from collections.abc import Callable
from typing import Any

from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput, Tools
from treadle.kit.late import Late


class LateTools:
    """Stands for the tools that `make` gives."""

    def __init__(self, make: Callable[[], Tools]) -> None:
        """Call `make` once, at the first use."""
        self._tools = Late(make)

    @property
    def specs(self) -> list[dict[str, Any]]:
        """How the model is told of them."""
        return self._tools().specs

    async def ready(self) -> None:
        """Wait, within limits, for tools that are on their way."""
        await self._tools().ready()

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Carry out one call; unknown tools and bad arguments become outputs too."""
        return await self._tools().run(call, context)
