"""The MCP servers of a thread that comes into memory: started with it, some of them required.

Between `threads`, which owns the thread's life, and the tools, which own the servers.
"""

from treadle.domain.events import Noticed
from treadle.engine.services.errors import StartFailed
from treadle.engine.services.feed import Feed
from treadle.engine.services.planning import ThreadPlan
from treadle.engine.tools.mcp_link import Json
from treadle.engine.tools.mcp_servers import RequiredServersFailed


def open_servers(plan: ThreadPlan, thread_id: str, feed: Feed) -> None:
    """Start the servers; what they tell goes to the thread's watchers."""

    def notify(method: str, params: Json) -> None:
        feed.publish(Noticed(thread_id=thread_id, method=method, params=params))

    if plan.mcp is not None:
        plan.mcp.open(thread_id, notify)


async def require_servers(plan: ThreadPlan) -> None:
    """Wait for those the thread cannot do without; raises StartFailed."""
    if plan.mcp is None:
        return
    try:
        await plan.mcp.required()
    except RequiredServersFailed as error:
        raise StartFailed(str(error)) from error
