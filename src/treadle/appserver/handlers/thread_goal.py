"""`thread/goal/*`: what a thread is to reach."""

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id
from treadle.wire.protocol import thread_work as proto
from treadle.wire.protocol.threads import ThreadIdParams


async def set_goal(context: Context, params: proto.GoalSetParams) -> proto.GoalSetResult:
    """Set the goal, or change it."""
    check_id(params.thread_id)
    goals = context.services.life().goals
    goal = await goals.set(params.thread_id, params.objective, params.status, params.token_budget)
    context.afterwards(lambda: goals.announce(params.thread_id, goal))
    return proto.GoalSetResult(goal=goal)


async def get_goal(context: Context, params: ThreadIdParams) -> proto.GoalGetResult:
    """The goal, if there is one."""
    check_id(params.thread_id)
    return proto.GoalGetResult(goal=await context.services.life().goals.get(params.thread_id))


async def clear_goal(context: Context, params: ThreadIdParams) -> proto.GoalClearResult:
    """Take the goal away."""
    check_id(params.thread_id)
    goals = context.services.life().goals
    cleared = await goals.clear(params.thread_id)
    if cleared:
        context.afterwards(lambda: goals.announce(params.thread_id, None))
    return proto.GoalClearResult(cleared=cleared)
