"""The app-server: sessions over channels, one engine behind them.

Puts dispatch, handlers and subscriptions together and runs connections. Which store, model or
sandbox there is was decided by whoever made the services.
"""

import itertools
import logging
from collections.abc import Mapping

from treadle.appserver.context import Services
from treadle.appserver.dispatch import Dispatch, Handler
from treadle.appserver.greeting import Greeting
from treadle.appserver.handlers import (
    account,
    approval,
    commands,
    device_key,
    feedback,
    file_search,
    files,
    host_facts,
    initialize,
    mcp,
    processes,
    settings,
    skills,
    special_turns,
    terminals,
    thread,
    thread_archive,
    thread_events,
    thread_fork,
    thread_goal,
    thread_history,
    thread_metadata,
    thread_queue,
    thread_rewind,
    turn,
)
from treadle.appserver.session import Session
from treadle.domain.questions import Answer
from treadle.engine.services.feed import Feed
from treadle.kit.tasks import TaskScope
from treadle.wire.rpc.lanes import Lanes
from treadle.wire.rpc.peer import OUTBOX_LIMIT_BYTES, Peer
from treadle.wire.transport.channel import Channel

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long requests received before end of input may take to be answered."""

HANDLERS: Mapping[str, Handler] = {
    "initialize": initialize.initialize,
    "thread/start": thread.start,
    "thread/resume": thread.resume,
    "thread/read": thread.read,
    "thread/list": thread.list_threads,
    "thread/loaded/list": thread.list_loaded,
    "thread/archive": thread_archive.archive,
    "thread/unarchive": thread_archive.unarchive,
    "thread/delete": thread_archive.delete,
    "thread/fork": thread_fork.fork,
    "thread/turns/list": thread_history.list_turns,
    "thread/items/list": thread_history.list_items,
    "thread/items/read": thread_history.read_items,
    "thread/events/list": thread_events.list_events,
    "thread/search": thread_history.search,
    "thread/searchOccurrences": thread_history.search_occurrences,
    "thread/name/set": thread_metadata.set_name,
    "thread/metadata/update": thread_metadata.update_metadata,
    "thread/memoryMode/set": thread_metadata.set_memory_mode,
    "thread/settings/update": thread_metadata.update_settings,
    "thread/increment_elicitation": thread_metadata.increment_elicitation,
    "thread/decrement_elicitation": thread_metadata.decrement_elicitation,
    "thread/goal/set": thread_goal.set_goal,
    "thread/goal/get": thread_goal.get_goal,
    "thread/goal/clear": thread_goal.clear_goal,
    "thread/queue/add": thread_queue.add,
    "thread/queue/list": thread_queue.list_queue,
    "thread/queue/update": thread_queue.update,
    "thread/queue/delete": thread_queue.delete,
    "thread/queue/reorder": thread_queue.reorder,
    "thread/queue/start": thread_queue.start,
    "thread/rollback": thread_rewind.rollback,
    "thread/revert": thread_rewind.revert,
    "thread/inject_items": thread_rewind.inject_items,
    "thread/unsubscribe": thread.unsubscribe,
    "turn/start": turn.start,
    "turn/steer": turn.steer,
    "turn/interrupt": turn.interrupt,
    "turn/settings/update": turn.update_settings,
    "collaborationMode/list": turn.list_modes,
    "approval/list": approval.list_approvals,
    "approval/answer": approval.answer,
    "review/start": special_turns.review,
    "thread/compact/start": special_turns.compact,
    "thread/shellCommand": special_turns.shell_command,
    "thread/backgroundTerminals/list": terminals.list_terminals,
    "thread/backgroundTerminals/terminate": terminals.terminate,
    "thread/backgroundTerminals/clean": terminals.clean,
    "config/read": settings.read_config,
    "config/value/write": settings.write_config_value,
    "config/batchWrite": settings.write_config_batch,
    "configRequirements/read": settings.read_requirements,
    "config/mcpServer/reload": mcp.reload,
    "mcpServerStatus/list": mcp.list_status,
    "mcpServer/tool/call": mcp.call_tool,
    "mcpServer/oauth/login": mcp.log_in,
    "mcpServer/resource/read": mcp.read_resource,
    "experimentalFeature/list": settings.list_features,
    "experimentalFeature/enablement/set": settings.switch_features,
    "model/list": settings.list_models,
    "modelProvider/list": host_facts.list_providers,
    "modelProvider/capabilities/read": host_facts.read_capabilities,
    "permissionProfile/list": host_facts.list_permission_profiles,
    "server/diagnostics": host_facts.diagnose,
    "gitDiffToRemote": host_facts.diff_git,
    "mock/experimentalMethod": host_facts.echo,
    "account/read": account.read,
    "account/login/start": account.start_login,
    "account/login/cancel": account.cancel_login,
    "account/logout": account.log_out,
    "getAuthStatus": account.auth_status,
    "skills/list": skills.list_skills,
    "skills/config/write": skills.switch,
    "skills/extraRoots/set": skills.set_extra_roots,
    "fs/readFile": files.read_file,
    "fs/writeFile": files.write_file,
    "fs/createDirectory": files.create_directory,
    "fs/getMetadata": files.get_metadata,
    "fs/readDirectory": files.read_directory,
    "fs/remove": files.remove,
    "fs/copy": files.copy,
    "fs/watch": files.watch,
    "fs/unwatch": files.unwatch,
    "fuzzyFileSearch": file_search.find,
    "fuzzyFileSearch/sessionStart": file_search.start,
    "fuzzyFileSearch/sessionUpdate": file_search.update,
    "fuzzyFileSearch/sessionStop": file_search.stop,
    "command/exec": commands.execute,
    "command/exec/write": commands.write,
    "command/exec/terminate": commands.terminate,
    "command/exec/resize": commands.resize,
    "process/spawn": processes.spawn,
    "process/writeStdin": processes.write,
    "process/kill": processes.kill,
    "process/resizePty": processes.resize,
    "feedback/save": feedback.save,
    "feedback/upload": feedback.upload,
    "device/key/create": device_key.create,
    "device/key/public": device_key.public,
    "device/key/sign": device_key.sign,
}
"""Every offered method of the table and what serves it."""


class AppServer:
    """Serves any number of connections."""

    def __init__(self, services: Services, feed: Feed) -> None:
        self._services = services
        self._dispatch = Dispatch(services, HANDLERS, Lanes())
        self._numbers = itertools.count(1)
        self._sessions: set[Session] = set()
        services.threads.watched = services.subscriptions.watched
        services.requests.watched = services.subscriptions.watched
        services.subscriptions.on_unwatched = self._unwatched
        services.subscriptions.requests.on_answer = self._answered
        feed.listen(services.subscriptions)

    def _unwatched(self, thread_id: str) -> None:
        self._services.requests.unwatched(thread_id)
        self._services.threads.unwatched(thread_id)

    def _answered(self, number: int, answer: Answer | None) -> None:
        requests = self._services.requests
        settled = requests.fail(number) if answer is None else requests.answer(number, answer)
        if not settled:
            logger.debug("an answer to request %d came too late", number)

    @property
    def running_turns(self) -> int:
        """How many turns run now."""
        return self._services.threads.running_count

    def drain(self) -> None:
        """Refuse new turns from now on; everything else is still served."""
        self._services.turns.draining = True

    async def serve(
        self, channel: Channel, *, last: bool = False, greeting: Greeting | None = None
    ) -> None:
        """Run one connection until its peer ends it.

        Requests received before that are answered. With `last` the engine is shut down before the
        connection closes, so that the end of its turns can still be heard. `greeting` is that of a
        client whose `initialize` has been answered already.
        """
        number = next(self._numbers)
        peer = Peer(channel, limit_bytes=None if last else OUTBOX_LIMIT_BYTES)
        session = Session(number, peer, TaskScope(f"connection {number}"))
        self._sessions.add(session)
        self._services.subscriptions.add(session)
        if greeting is not None:
            session.greeted(greeting)
            initialize.tell_first(session, self._services)
        try:
            await peer.run(lambda message: self._dispatch.take(session, message))
            # A command of hours would keep its request open: what is held ends with the input.
            await session.let_go()
            await session.gate.drained(ANSWER_SECONDS)
        finally:
            session.gate.close()
            await session.scope.close(1.0)
            await session.let_go()
            if last:
                await self.shutdown()
            self._services.subscriptions.remove(session)
            self._sessions.discard(session)
            await peer.close()

    async def shutdown(self) -> None:
        """Interrupt what runs and close all threads; idempotent, bounded."""
        await self._services.file_search.close()
        await self._services.threads.shutdown()
