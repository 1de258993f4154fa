"""Puts a thread together in memory from its first record, its plan and its log."""

import time

import msgspec

from treadle.domain.agents import depth_of
from treadle.domain.records import ThreadCreated
from treadle.engine.agent import prompt
from treadle.engine.agent.agent_thread import AgentThread
from treadle.engine.services.client_tools import with_client_tools
from treadle.engine.services.feed import Feed
from treadle.engine.services.loaded_thread import LoadedThread, ThreadLog
from treadle.engine.services.planning import ThreadPlan
from treadle.kit.clock import Clock


class LoadingParts(msgspec.Struct, frozen=True):
    """What all threads of an engine share, and the name of the client that loads one."""

    feed: Feed
    clock: Clock
    originator: str
    user_agent: str


def load_thread(
    created: ThreadCreated,
    plan: ThreadPlan,
    log: ThreadLog,
    parts: LoadingParts,
    *,
    ephemeral: bool,
) -> LoadedThread:
    """A thread in memory, with an empty context.

    Args:
        created: the thread's first record.
        plan: what it runs with.
        log: its log.
        parts: what all threads of the engine share, and who loads this one.
        ephemeral: whether it is forgotten when it leaves memory.
    """
    agent = AgentThread(
        thread_id=created.thread_id,
        session_id=created.session_id,
        originator=parts.originator,
        user_agent=parts.user_agent,
        settings=plan.settings,
        base_instructions=created.base_instructions or prompt.BASE_INSTRUCTIONS,
        surroundings=prompt.Surroundings(
            shell=plan.shell,
            date=time.strftime("%Y-%m-%d", time.localtime(parts.clock.now())),
            timezone=plan.timezone,
            project_doc=plan.project_doc,
            developer_instructions=plan.developer_instructions,
        ),
        log=log,
        announcer=parts.feed,
        model=plan.model,
        tools=with_client_tools(plan.tools, created.dynamic_tools),
        sandbox=plan.sandbox,
        env=plan.make_env(created.session_id, created.thread_id),
        clock=parts.clock,
        traits=plan.traits,
        skills=plan.skills,
        shell=plan.shell_path,
        home=plan.home,
        request_metadata=_spawn_metadata(created),
    )
    return LoadedThread(
        agent,
        log,
        created,
        ephemeral=ephemeral,
        path=None if ephemeral else log.info.path,
        unload_delay_seconds=plan.unload_delay_seconds,
    )


def _spawn_metadata(created: ThreadCreated) -> dict[str, object]:
    """What providers are told of a thread that an agent spawned (0.169.0)."""
    if not depth_of(created):
        return {}
    return {"parent_thread_id": created.parent_thread_id, "subagent_kind": "thread_spawn"}
