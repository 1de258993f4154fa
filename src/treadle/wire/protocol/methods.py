"""THE table: every method that a client may call, one row each.

Dispatch, the typed client, the reference page and the completeness test are derived from it. A
method of either reference version (0.129.0, 0.169.0) that this server does not offer has a row too:
it answers that it is not supported. Rows of threads and turns are here, those of the machine and
its settings in `host_methods`. Lanes follow the references' measured scopes, but for
`turn/interrupt`, which has none: what must interrupt may not wait behind what it interrupts.
"""

from treadle.wire.protocol import (
    approvals,
    initialize,
    special_turns,
    terminals,
    thread_changes,
    thread_events,
    thread_history,
    thread_work,
    threads,
    turns,
)
from treadle.wire.protocol.host_methods import HOST_METHODS
from treadle.wire.protocol.method_spec import Lane, MethodSpec
from treadle.wire.protocol.not_offered import NOT_OFFERED, NOT_OFFERED_EXPERIMENTAL

_THREAD = Lane("thread", "thread_id")

_OFFERED = (
    MethodSpec(
        name="initialize", params=initialize.InitializeParams, result=initialize.InitializeResult
    ),
    MethodSpec(
        name="thread/start",
        params=threads.ThreadStartParams,
        result=threads.ThreadSession,
        experimental_fields=(
            ("budget", "budget"),
            ("dynamic_tools", "dynamicTools"),
            ("experimental_raw_events", "experimentalRawEvents"),
            ("environments", "environments"),
            ("permissions", "permissions"),
            ("runtime_workspace_roots", "runtimeWorkspaceRoots"),
            ("history_mode", "historyMode"),
            ("project_id", "projectId"),
            ("mock_experimental_field", "mockExperimentalField"),
        ),
    ),
    MethodSpec(
        name="thread/resume",
        params=threads.ThreadResumeParams,
        result=threads.ResumedSession,
        lane=_THREAD,
        experimental_fields=(
            ("path", "path"),
            ("history", "history"),
            ("initial_turns_page", "initialTurnsPage"),
            ("permissions", "permissions"),
            ("runtime_workspace_roots", "runtimeWorkspaceRoots"),
        ),
    ),
    MethodSpec(
        name="thread/read",
        params=threads.ThreadReadParams,
        result=threads.ReadThread,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/list", params=threads.ThreadListParams, result=threads.ThreadListResult
    ),
    MethodSpec(
        name="thread/loaded/list",
        params=threads.LoadedListParams,
        result=threads.LoadedListResult,
    ),
    MethodSpec(
        name="thread/archive", params=threads.ThreadIdParams, result=threads.Empty, lane=_THREAD
    ),
    MethodSpec(
        name="thread/unarchive",
        params=threads.ThreadIdParams,
        result=threads.ThreadResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/delete",
        params=threads.ThreadIdParams,
        result=threads.Empty,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/fork",
        params=thread_changes.ThreadForkParams,
        result=threads.ThreadSession,
        lane=_THREAD,
        experimental_fields=(
            ("path", "path"),
            ("before_turn_id", "beforeTurnId"),
            ("permissions", "permissions"),
            ("runtime_workspace_roots", "runtimeWorkspaceRoots"),
            ("attach_to_source", "attachToSource"),
            ("defer_goal_continuation", "deferGoalContinuation"),
            ("experimental_prediction_mode", "experimentalPredictionMode"),
            ("experimental_disable_prediction_mcp", "experimentalDisablePredictionMcp"),
        ),
    ),
    MethodSpec(
        name="thread/turns/list",
        params=thread_history.TurnsListParams,
        result=thread_history.TurnsListResult,
    ),
    MethodSpec(
        name="thread/items/list",
        params=thread_history.ItemsListParams,
        result=thread_history.ItemsListResult,
        experimental_fields=(("defer_output", "deferOutput"),),
    ),
    MethodSpec(
        name="thread/items/read",
        params=thread_history.ItemsReadParams,
        result=thread_history.ItemsReadResult,
        experimental=True,
    ),
    MethodSpec(
        name="thread/events/list",
        params=thread_events.EventsListParams,
        result=thread_events.EventsListResult,
        experimental=True,
    ),
    MethodSpec(
        name="thread/search",
        params=thread_history.ThreadSearchParams,
        result=thread_history.ThreadSearchResult,
        experimental=True,
    ),
    MethodSpec(
        name="thread/searchOccurrences",
        params=thread_history.OccurrencesParams,
        result=thread_history.OccurrencesResult,
        experimental=True,
    ),
    MethodSpec(
        name="thread/name/set",
        params=thread_changes.ThreadNameParams,
        result=threads.Empty,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/metadata/update",
        params=thread_changes.ThreadMetadataParams,
        result=threads.ThreadResult,
        lane=_THREAD,
        experimental_fields=(
            ("project_id", "projectId"),
            ("daybreak_enabled", "daybreakEnabled"),
        ),
    ),
    MethodSpec(
        name="thread/memoryMode/set",
        params=thread_changes.MemoryModeParams,
        result=threads.Empty,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/settings/update",
        params=thread_changes.ThreadSettingsParams,
        result=threads.Empty,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/increment_elicitation",
        params=threads.ThreadIdParams,
        result=thread_changes.ElicitationResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/decrement_elicitation",
        params=threads.ThreadIdParams,
        result=thread_changes.ElicitationResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/goal/set",
        params=thread_work.GoalSetParams,
        result=thread_work.GoalSetResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/goal/get",
        params=threads.ThreadIdParams,
        result=thread_work.GoalGetResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/goal/clear",
        params=threads.ThreadIdParams,
        result=thread_work.GoalClearResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/queue/add",
        params=thread_work.QueueAddParams,
        result=thread_work.QueueSubmissionResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/queue/list",
        params=thread_work.QueueListParams,
        result=thread_work.QueueListResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/queue/update",
        params=thread_work.QueueUpdateParams,
        result=thread_work.QueueSubmissionResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/queue/delete",
        params=thread_work.QueueDeleteParams,
        result=thread_work.QueueDeleteResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/queue/reorder",
        params=thread_work.QueueReorderParams,
        result=threads.Empty,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/queue/start",
        params=thread_work.QueueStartParams,
        result=thread_work.QueueStartResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/rollback",
        params=thread_changes.ThreadRollbackParams,
        result=threads.ThreadResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/revert",
        params=thread_changes.ThreadRevertParams,
        result=thread_changes.ThreadRevertResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/inject_items",
        params=thread_changes.InjectItemsParams,
        result=threads.Empty,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/unsubscribe",
        params=threads.ThreadIdParams,
        result=threads.UnsubscribeResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="turn/start",
        params=turns.TurnStartParams,
        result=turns.TurnStartResult,
        lane=_THREAD,
        experimental_fields=(
            ("budget", "budget"),
            ("collaboration_mode", "collaborationMode"),
            ("environments", "environments"),
            ("permissions", "permissions"),
            ("runtime_workspace_roots", "runtimeWorkspaceRoots"),
            ("additional_context", "additionalContext"),
            ("responsesapi_client_metadata", "responsesapiClientMetadata"),
        ),
    ),
    MethodSpec(
        name="turn/steer",
        params=turns.TurnSteerParams,
        result=turns.TurnSteerResult,
        lane=_THREAD,
    ),
    MethodSpec(name="turn/interrupt", params=turns.TurnInterruptParams, result=threads.Empty),
    MethodSpec(
        name="approval/list",
        params=approvals.ApprovalListParams,
        result=approvals.ApprovalListResult,
        optional_params=True,
    ),
    MethodSpec(
        name="approval/answer",
        params=approvals.ApprovalAnswerParams,
        result=approvals.ApprovalAnswerResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="review/start",
        params=special_turns.ReviewStartParams,
        result=special_turns.ReviewStartResult,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/compact/start",
        params=threads.ThreadIdParams,
        result=threads.Empty,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/shellCommand",
        params=special_turns.ShellCommandParams,
        result=threads.Empty,
        lane=_THREAD,
    ),
    MethodSpec(
        name="thread/backgroundTerminals/list",
        params=terminals.TerminalsListParams,
        result=terminals.TerminalsListResult,
        experimental=True,
    ),
    MethodSpec(
        name="thread/backgroundTerminals/terminate",
        params=terminals.TerminalTerminateParams,
        result=terminals.TerminalTerminateResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="thread/backgroundTerminals/clean",
        params=threads.ThreadIdParams,
        result=threads.Empty,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="turn/settings/update",
        params=turns.TurnSettingsParams,
        result=turns.TurnSettingsResult,
        lane=_THREAD,
        experimental=True,
    ),
    MethodSpec(
        name="collaborationMode/list",
        params=threads.Empty,
        result=turns.CollaborationModes,
        experimental=True,
        optional_params=True,
    ),
)

METHODS: dict[str, MethodSpec] = {
    **{spec.name: spec for spec in (*_OFFERED, *HOST_METHODS)},
    **{name: MethodSpec(name=name, offered=False) for name in NOT_OFFERED.split()},
    **{
        name: MethodSpec(name=name, offered=False, experimental=True)
        for name in NOT_OFFERED_EXPERIMENTAL.split()
    },
}
"""Every known method by name."""
