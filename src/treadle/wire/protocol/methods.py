"""THE table: every method that a client may call, one row each.

Dispatch, the typed client, the reference page and the completeness test are derived from it. A
method of either reference version (0.129.0, 0.169.0) that this server does not offer has a row too:
it answers that it is not supported. Lanes follow the references' measured scopes, but for
`turn/interrupt`, which has none: what must interrupt may not wait behind what it interrupts.
"""

from treadle.domain.device_keys import DeviceKey, Signature
from treadle.wire.protocol import (
    commands,
    device_keys,
    files,
    initialize,
    mcp,
    settings,
    special_turns,
    thread_changes,
    thread_history,
    thread_work,
    threads,
    turns,
)
from treadle.wire.protocol.method_spec import Lane, MethodSpec

_THREAD = Lane("thread", "thread_id")
_CONFIG_READ = Lane("config", access="shared")
_CONFIG = Lane("config")
_ACCOUNT = Lane("account")
_DEVICE_KEYS = Lane("device-keys")
_EXEC = Lane("exec", "process_id", per_connection=True)
_PROCESS = Lane("process", "process_handle", per_connection=True)
_WATCH = Lane("fswatch", "watch_id", per_connection=True)

_OFFERED = (
    MethodSpec(
        name="initialize", params=initialize.InitializeParams, result=initialize.InitializeResult
    ),
    MethodSpec(
        name="thread/start",
        params=threads.ThreadStartParams,
        result=threads.ThreadSession,
        experimental_fields=(
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
        result=threads.ThreadResult,
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
        name="config/read",
        params=settings.ConfigReadParams,
        result=settings.ConfigReadResult,
        lane=_CONFIG_READ,
    ),
    MethodSpec(
        name="config/value/write",
        params=settings.ConfigValueWriteParams,
        result=dict,
        lane=_CONFIG,
    ),
    MethodSpec(
        name="config/batchWrite",
        params=settings.ConfigBatchWriteParams,
        result=dict,
        lane=_CONFIG,
    ),
    MethodSpec(
        name="configRequirements/read", result=settings.ConfigRequirementsResult, lane=_CONFIG
    ),
    MethodSpec(
        name="config/mcpServer/reload", params=None, result=threads.Empty, optional_params=True
    ),
    MethodSpec(
        name="mcpServerStatus/list",
        params=mcp.ServerStatusParams,
        result=mcp.ServerStatusResult,
    ),
    # No lane: a tool may run for minutes, and what it answers depends on no other request.
    MethodSpec(name="mcpServer/tool/call", params=mcp.ToolCallParams, result=mcp.ToolCallResult),
    MethodSpec(
        name="mcpServer/resource/read",
        params=mcp.ResourceReadParams,
        result=mcp.ResourceReadResult,
    ),
    MethodSpec(name="model/list", params=settings.ModelListParams, result=settings.ModelListResult),
    MethodSpec(name="fs/readFile", params=files.PathParams, result=files.FileContent),
    MethodSpec(name="fs/writeFile", params=files.WriteFileParams, result=threads.Empty),
    MethodSpec(name="fs/createDirectory", params=files.CreateDirectoryParams, result=threads.Empty),
    MethodSpec(name="fs/getMetadata", params=files.PathParams, result=files.Metadata),
    MethodSpec(name="fs/readDirectory", params=files.PathParams, result=files.Directory),
    MethodSpec(name="fs/remove", params=files.RemoveParams, result=threads.Empty),
    MethodSpec(name="fs/copy", params=files.CopyParams, result=threads.Empty),
    MethodSpec(name="fs/watch", params=files.WatchParams, result=files.WatchResult, lane=_WATCH),
    MethodSpec(name="fs/unwatch", params=files.UnwatchParams, result=threads.Empty, lane=_WATCH),
    # No lane: its follow-ups come while it runs, and what kills it may not wait behind a write.
    MethodSpec(
        name="command/exec",
        params=commands.CommandExecParams,
        result=commands.CommandExecResult,
        experimental_fields=(("permission_profile", "permissionProfile"),),
    ),
    MethodSpec(
        name="command/exec/terminate", params=commands.CommandIdParams, result=threads.Empty
    ),
    MethodSpec(
        name="command/exec/write",
        params=commands.CommandWriteParams,
        result=threads.Empty,
        lane=_EXEC,
    ),
    MethodSpec(
        name="command/exec/resize",
        params=commands.CommandResizeParams,
        result=threads.Empty,
        lane=_EXEC,
    ),
    MethodSpec(
        name="process/spawn",
        params=commands.ProcessSpawnParams,
        result=threads.Empty,
        lane=_PROCESS,
        experimental=True,
    ),
    MethodSpec(
        name="process/writeStdin",
        params=commands.ProcessWriteParams,
        result=threads.Empty,
        lane=_PROCESS,
        experimental=True,
    ),
    MethodSpec(
        name="process/kill",
        params=commands.ProcessIdParams,
        result=threads.Empty,
        experimental=True,
    ),
    MethodSpec(
        name="process/resizePty",
        params=commands.ProcessResizeParams,
        result=threads.Empty,
        lane=_PROCESS,
        experimental=True,
    ),
    MethodSpec(
        name="device/key/create",
        params=device_keys.DeviceKeyCreateParams,
        result=DeviceKey,
        lane=_DEVICE_KEYS,
    ),
    MethodSpec(
        name="device/key/public",
        params=device_keys.DeviceKeyPublicParams,
        result=DeviceKey,
        lane=_DEVICE_KEYS,
    ),
    MethodSpec(
        name="device/key/sign",
        params=device_keys.DeviceKeySignParams,
        result=Signature,
        lane=_DEVICE_KEYS,
    ),
    MethodSpec(
        name="account/read",
        params=settings.AccountReadParams,
        result=settings.AccountReadResult,
        lane=_ACCOUNT,
        optional_params=True,
    ),
)

_NOT_OFFERED = """
    account/gatewayOAuth/cancel account/gatewayOAuth/login account/gatewayOAuth/read
    account/login/cancel account/login/start account/logout account/rateLimitResetCredit/consume
    account/rateLimits/read account/securitySetup/read account/sendAddCreditsNudgeEmail
    account/usage/read account/workspaceMessages/read app/installed app/list app/read
    experimentalFeature/enablement/set experimentalFeature/list externalAgentConfig/detect
    externalAgentConfig/import externalAgentConfig/import/readHistories
    externalAgentConfig/import/recordHistory feedback/save feedback/upload
    fuzzyFileSearch getAuthStatus getConversationSummary gitDiffToRemote hooks/list
    marketplace/add marketplace/remove marketplace/upgrade mcpServer/oauth/login
    modelProvider/capabilities/read modelProvider/config/write modelProvider/list
    permissionProfile/list plugin/install plugin/installed plugin/list plugin/read
    plugin/reconcile plugin/share/checkout plugin/share/delete plugin/share/list
    plugin/share/save plugin/share/updateTargets plugin/skill/read plugin/uninstall
    skills/config/write skills/extraRoots/set skills/list thread/approveGuardianDeniedAction
    thread/attachment/add thread/attachment/list thread/attachment/remove
    thread/attachmentOwner/list thread/section/move
    threadSection/create threadSection/delete threadSection/list threadSection/update
    windowsSandbox/readiness windowsSandbox/setupStart
"""

_NOT_OFFERED_EXPERIMENTAL = """
    account/bedrock/checkGovCloudRequirements account/bedrock/discover account/bedrock/setup
    account/gcp/setup accountSession/list accountSession/switch collaborationMode/list
    environment/add environment/info environment/status fuzzyFileSearch/sessionStart
    fuzzyFileSearch/sessionStop fuzzyFileSearch/sessionUpdate mcpServer/event/stream/start
    mcpServer/event/stream/stop memory/reset memory/status mock/experimentalMethod plugin/search
    project/create
    project/delete project/import project/list project/move project/read project/update
    remoteControl/client/list remoteControl/client/revoke remoteControl/disable
    remoteControl/enable remoteControl/pairing/start remoteControl/pairing/status
    remoteControl/status/read rollout/compress server/diagnostics
    thread/backgroundTerminals/clean thread/backgroundTerminals/list
    thread/backgroundTerminals/terminate thread/guardianReview thread/memory/read
    thread/prediction/request thread/prepareApprovedPlan thread/readState/update
    thread/realtime/appendAudio thread/realtime/appendSpeech thread/realtime/appendText
    thread/realtime/listVoices thread/realtime/start thread/realtime/stop thread/sample
    thread/sample/cancel thread/timeline/list turn/settings/update userVerification/cancel
    userVerification/delete userVerification/enroll userVerification/status
    userVerification/verify
"""

METHODS: dict[str, MethodSpec] = {
    **{spec.name: spec for spec in _OFFERED},
    **{name: MethodSpec(name=name, offered=False) for name in _NOT_OFFERED.split()},
    **{
        name: MethodSpec(name=name, offered=False, experimental=True)
        for name in _NOT_OFFERED_EXPERIMENTAL.split()
    },
}
"""Every known method by name."""
