"""What serves the methods of `wire.protocol.thread_methods`."""

from collections.abc import Mapping

from treadle.appserver.context import Handler
from treadle.appserver.handlers import (
    approval,
    special_turns,
    terminals,
    thread_archive,
    thread_events,
    thread_fork,
    thread_goal,
    thread_history,
    thread_metadata,
    thread_queue,
    thread_rewind,
)

THREAD_HANDLERS: Mapping[str, Handler] = {
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
    "approval/list": approval.list_approvals,
    "approval/answer": approval.answer,
    "review/start": special_turns.review,
    "thread/compact/start": special_turns.compact,
    "thread/shellCommand": special_turns.shell_command,
    "thread/backgroundTerminals/list": terminals.list_terminals,
    "thread/backgroundTerminals/terminate": terminals.terminate,
    "thread/backgroundTerminals/clean": terminals.clean,
}
"""By method; loaded when the first of them is asked for."""
